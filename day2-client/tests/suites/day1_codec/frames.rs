//! Frames: where one piece of data ends and the next begins.
//!
//! Write `FrameReader` and `FrameWriter` in `src/wire/frame.rs`, and the `Queue` that the writer keeps its
//! bytes in, in `src/wire/write_buf.rs`. `parse` finds a frame in what has arrived; `read`, `queue` and
//! `flush` stand on it.
//!
//! Chapter: The wire > Frames; Files of today > src/wire/frame.rs

use super::*;

/// A frame is four bytes of length, the highest first, and then the payload; an empty frame is a frame.
///
/// The bytes here are written by hand. An encoder and a decoder with the same mistake would agree with each
/// other, and with no other program.
///
/// Hint: `u32::to_be_bytes`.
#[test]
fn a_frame_is_its_length_in_four_bytes_and_its_payload() {
    run(async || {
        let long = [b'x'; 0x102];
        let wire = [b"\x00\x00\x00\x05hello\x00\x00\x00\x00\x00\x00\x01\x02".as_slice(), &long].concat();

        let mut out = Vec::new();
        let mut writer = FrameWriter::new(&mut out, 1000);
        for payload in [b"hello".as_slice(), b"", &long] {
            writer.queue(payload.to_vec()).unwrap();
        }
        assert_eq!((writer.queued(), writer.needs_flush()), (wire.len(), true));
        within("the flush", writer.flush()).await.unwrap();
        assert_eq!((writer.queued(), writer.needs_flush()), (0, false));
        assert_eq!(out.escape_ascii().to_string(), wire.escape_ascii().to_string());

        let mut reader = FrameReader::new(Pieces::new([wire]), 1000);
        for payload in [b"hello".as_slice(), b"", &long] {
            assert_eq!(within("a frame", reader.read()).await.unwrap().as_deref(), Some(payload));
        }
    });
}

/// Frames arrive whole, however the stream was cut: many in one read, one in many reads, one byte at a time.
///
/// TCP keeps the bytes and their order, and nothing else. A reader that takes what one `read` returns for
/// one frame works on an idle machine and fails under load.
///
/// Hint: keep what has arrived in a buffer, and take a frame off its front when it is complete.
#[test]
fn frames_arrive_whole_however_the_stream_is_cut() {
    let payloads = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6000), 0..8);
    let sizes = prop_oneof![
        Just(vec![1]),          // one byte a read
        Just(vec![usize::MAX]), // everything in one read
        prop::collection::vec(1..5000_usize, 1..10),
    ];
    proptest!(proptest_config(), |(payloads in payloads, sizes in sizes)| {
        run(async move || {
            let wire: Vec<u8> = payloads.iter().flat_map(frame).collect();
            let mut reader = FrameReader::new(Pieces::cut(&wire, &sizes), 6000);
            for payload in &payloads {
                let read = within("a frame", reader.read()).await.unwrap();
                assert_eq!(read.as_deref(), Some(&payload[..]));
            }
            assert_eq!(within("the end of the stream", reader.read()).await.unwrap(), None);
        });
    });
}

/// Our frames are those of tokio-util's `LengthDelimitedCodec`, in both directions.
///
/// That one was written by others and read by many, so it finds what we and our tests get wrong alike. It
/// also tells who ports a client how little there is to write.
///
/// Hint: that codec's defaults are our frame: a length of four bytes, the highest first, which counts the
/// payload and not itself.
#[test]
fn frames_are_those_of_the_length_delimited_codec() {
    let payloads = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..8);
    proptest!(proptest_config(), |(payloads in payloads, size in 1..20_000_usize)| {
        run(async move || {
            let mut ours = Vec::new();
            let mut writer = FrameWriter::new(&mut ours, DEFAULT_MAX_FRAME_LEN);
            let mut theirs = BytesMut::new();
            for payload in &payloads {
                writer.queue(payload.clone()).unwrap();
                LengthDelimitedCodec::new().encode(&payload[..], &mut theirs).unwrap();
            }
            within("the flush", writer.flush()).await.unwrap();

            let mut reader = FrameReader::new(Pieces::cut(&theirs, &[size]), DEFAULT_MAX_FRAME_LEN);
            let mut ours = BytesMut::from(&ours[..]);
            for payload in &payloads {
                let read = within("a frame of theirs", reader.read()).await.unwrap();
                assert_eq!(read.as_deref(), Some(&payload[..]));
                let read = LengthDelimitedCodec::new().decode(&mut ours).unwrap();
                assert_eq!(read.as_deref(), Some(&payload[..]));
            }
            assert!(ours.is_empty());
        });
    });
}

/// A stream that cannot write several buffers at once gets the same bytes.
///
/// A vectored write saves copies, but many streams have none (`AsyncWrite::is_write_vectored`): they take one
/// buffer, and of that only a part.
///
/// Hint: `write_buf` does the one or the other, and goes on where the last write ended.
#[test]
fn a_stream_without_vectored_writes_gets_the_same_bytes() {
    run(async || {
        let payloads = [vec![1; 10], vec![2; 9000], vec![], vec![3; 20_000], vec![4; 5000], vec![5; 10]];
        let mut written = Vec::new();
        let mut writer = FrameWriter::new(OneByte(&mut written), DEFAULT_MAX_FRAME_LEN);
        for payload in &payloads {
            writer.queue(payload.clone()).unwrap();
        }
        within("the flush", writer.flush()).await.unwrap();
        assert!(written == payloads.map(frame).concat(), "other bytes were written than were queued");
    });
}

/// A `read` that is dropped half-way loses nothing: the next one goes on where it was.
///
/// In a `select!` the branch that loses is dropped, and reading is often the one that loses. A reader that
/// keeps half a frame in a local variable (`read_exact` does) forgets it, and takes the middle of a frame
/// for the next length.
///
/// Hint: everything that has arrived belongs into the reader, nothing of it into the future.
#[test]
fn a_dropped_read_loses_nothing() {
    run(async || {
        let (mut client, io) = duplex(64);
        let mut reader = FrameReader::new(io, 1000);
        let payloads = ["first", "", "the third frame"];
        let mut frames = Vec::new();
        for byte in payloads.iter().flat_map(frame) {
            within("a byte on its way", client.write_all(&[byte])).await.unwrap();
            // Three polls, each of a new future.
            for _ in 0..3 {
                frames.extend(poll_once(reader.read()).await.map(|read| read.unwrap().unwrap()));
            }
        }
        assert_eq!(frames, payloads);
    });
}

/// A `flush` that is dropped half-way neither loses a byte nor writes one twice.
///
/// The same for the other direction: replies are flushed in a `select!`, beside reading. `write_all` would
/// forget how far it got.
///
/// Hint: take the bytes off the queue exactly when the stream has taken them.
#[test]
fn a_dropped_flush_loses_nothing() {
    run(async || {
        let (io, mut peer) = duplex(6);
        let mut writer = FrameWriter::new(io, 100_000);
        let payloads = [vec![1; 3], vec![2; 10_000], vec![], vec![3; 9], vec![4; 5000], vec![5; 1]];
        let mut arrived = Vec::new();
        let mut rounds = 0;
        for payload in &payloads {
            writer.queue(payload.clone()).unwrap();
            // More is queued behind a flush that was dropped.
            assert!(poll_once(writer.flush()).await.is_none(), "there is no room for all of it");
        }
        let flush_in_small_steps = async {
            while writer.needs_flush() {
                if let Some(flushed) = poll_once(writer.flush()).await {
                    flushed.unwrap();
                }
                let mut buf = [0; 5];
                let n = peer.read(&mut buf).await.unwrap();
                arrived.extend_from_slice(&buf[..n]);
                rounds += 1;
            }
        };
        within("everything written", flush_in_small_steps).await;
        drop(writer);
        within("the rest", peer.read_to_end(&mut arrived)).await.unwrap();
        let expected: Vec<u8> = payloads.iter().flat_map(frame).collect();
        assert!(arrived == expected, "{} bytes arrived instead of {}", arrived.len(), expected.len());
        assert!(rounds > 100, "it took {rounds} rounds: was a flush ever dropped in the middle?");
    });
}

/// A step of a flush returns as soon as the stream has taken something, and the rest stays queued.
///
/// That tells a slow peer, whose stream takes a little now and then, from one that does not read at all. Whoever
/// waits for the whole flush cannot tell them apart.
///
/// Hint: one write, not a loop of them.
#[test]
fn a_step_of_a_flush_returns_when_the_stream_takes_something() {
    run(async || {
        let (io, mut peer) = duplex(10);
        let mut writer = MessageWriter::new(FrameWriter::new(io, 1000), Codec::Json);
        let header = Header { service_method: "A.b".to_owned(), seq: 1, error: None };
        writer.queue(&header, Bytes::from(vec![b'1'; 100])).unwrap();
        let whole = writer.queued();

        let mut arrived = Vec::new();
        while writer.needs_flush() {
            let before = writer.queued();
            within("a step, with room in the stream", writer.flush_step()).await.unwrap();
            assert!(before == 0 || writer.queued() < before, "a step that took nothing is none");
            let mut taken = vec![0; before - writer.queued()];
            within("what the step wrote", peer.read_exact(&mut taken)).await.unwrap();
            arrived.extend(taken);
        }
        assert_eq!((writer.queued(), arrived.len()), (0, whole));
        assert!(arrived.ends_with(&[b'1'; 100]), "{:?}", arrived.escape_ascii().to_string());
    });
}

/// A frame over the limit is refused as soon as its length is known, and before anything is allocated for
/// it; a frame of exactly the limit is fine. It holds for what we send, too.
///
/// The length is the peer's word. Four bytes must not make us allocate four gigabytes.
///
/// Hint: the stream of this test notes how large a buffer it was given to fill.
#[test]
fn a_length_over_the_limit_is_refused_before_allocating() {
    run(async || {
        const MAX: usize = 8 * 1024 * 1024;
        assert_eq!(DEFAULT_MAX_FRAME_LEN, MAX);
        for len in [u32::MAX, MAX as u32 + 1] {
            let io = Pieces::new([Vec::from(len.to_be_bytes()), b"what follows".to_vec()]);
            let largest_buffer = Arc::clone(&io.largest_buffer);
            let read = within("a refusal", FrameReader::new(io, MAX).read()).await;
            assert!(is_too_large(read, len as usize, MAX), "a length of {len} must be refused");
            let largest = largest_buffer.load(SeqCst);
            assert!(largest < 1024 * 1024, "{largest} bytes were allocated for a frame that is refused");
        }

        let payload = vec![7; MAX];
        let mut reader = FrameReader::new(Pieces::new([frame(&payload)]), MAX);
        let read = within("a frame of exactly the limit", reader.read()).await.unwrap();
        assert!(read.as_deref() == Some(&payload[..]));

        let mut out = Vec::new();
        let mut writer = FrameWriter::new(&mut out, 10);
        assert!(is_too_large(writer.queue(vec![0; 11]), 11, 10));
        assert_eq!((writer.queued(), writer.needs_flush()), (0, false), "nothing of it may be queued");
        writer.queue(vec![0; 10]).unwrap();
    });
}

/// What has arrived together is taken together: four hundred small frames cost a read or two, and a frame of
/// a megabyte a handful.
///
/// Each read is a call of the system, and costs more than a small frame does. Two of them for each frame (its
/// length, then its payload) make a server as slow as most are.
///
/// Hint: give each read more room than the frame needs, and keep what is left over for the next one.
#[test]
fn frames_that_arrive_together_are_read_together() {
    run(async || {
        let small: Vec<u8> = (0..400).flat_map(|_| frame("ten bytes.")).collect();
        let (io, reads) = CountReads::new(&small[..]);
        let mut reader = FrameReader::new(io, DEFAULT_MAX_FRAME_LEN);
        for number in 0..400 {
            let read = within("a small frame", reader.read()).await.unwrap();
            assert_eq!(read.as_deref(), Some(b"ten bytes.".as_slice()), "frame {number}");
        }
        let reads = reads.load(SeqCst);
        assert!(reads <= 4, "{reads} reads for 400 small frames that were there at once");

        let large = frame(vec![7; 1024 * 1024]);
        let (io, reads) = CountReads::new(&large[..]);
        let mut reader = FrameReader::new(io, DEFAULT_MAX_FRAME_LEN);
        let read = within("a large frame", reader.read()).await.unwrap();
        assert!(read.as_deref() == Some(&large[4..]));
        let reads = reads.load(SeqCst);
        assert!(reads <= 4, "{reads} reads for a frame of one megabyte that was there at once");
    });
}

/// `discard` throws away what arrives until the stream ends, or until its limit is reached.
///
/// A socket that is closed with unread bytes drops what we sent last, so whoever wants a last word to be read
/// has to hear the other side out. But not for ever: the limit is there for a peer that never stops.
///
/// Hint: count what each read brings, and look at the count before the next one.
#[test]
fn discard_ends_with_the_stream_or_at_its_limit() {
    run(async || {
        let (mut far, near) = duplex(16);
        let sender = tokio::spawn(async move { far.write_all(&[7; 1000]).await });
        within("the end of the stream", FrameReader::new(near, 100).discard(usize::MAX)).await;
        within("all is taken", sender).await.unwrap().expect("everything up to the end must be read");

        let (mut far, near) = duplex(1000);
        far.write_all(&[7; 100]).await.unwrap();
        let mut reader = FrameReader::new(near, 100);
        within("the limit, with nothing behind it", reader.discard(100)).await;

        let endless = tokio::io::repeat(7).take(u64::from(u32::MAX));
        let (io, reads) = CountReads::new(endless);
        within("the limit, in an endless stream", FrameReader::new(io, 100).discard(1_000_000)).await;
        let reads = reads.load(SeqCst);
        assert!(reads < 10_000, "{reads} reads for a million bytes: where is the limit?");
    });
}

/// The end of the stream between two frames is the normal end; inside a frame it is an error.
///
/// Half a frame is not a short frame: whoever takes it for one works with bytes that nobody sent.
///
/// Hint: when a read brings nothing more, look at what is left in the buffer. Nothing is the normal end;
/// anything else is `ErrorKind::UnexpectedEof`.
#[test]
fn the_end_between_two_frames_is_told_from_the_end_inside_one() {
    run(async || {
        let whole = frame("whole");
        for cut in 0..whole.len() {
            let mut reader = FrameReader::new(Pieces::new([&whole[..], &whole[..cut]].map(Vec::from)), 100);
            let first = within("the whole frame", reader.read()).await.unwrap();
            assert_eq!(first.as_deref(), Some(b"whole".as_slice()));
            match within("the end of the stream", reader.read()).await {
                Ok(None) => assert_eq!(cut, 0, "{cut} bytes of a frame are not the end between two"),
                Err(Error::Io(error)) => {
                    assert_ne!(cut, 0, "the end between two frames is no error");
                    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
                }
                other => panic!("after {cut} bytes: {other:?}"),
            }
        }
    });
}
