//! Frames: where one piece of data ends and the next begins.
//!
//! In `src/wire/frame.rs`: first `queue` and `flush`, as the first test needs nothing else; then `next`, which finds a
//! frame in what has arrived, `fill`, which reads once, and `read`, which does both until there is a frame.
//!
//! Works then: bytes that are written as frames arrive as the same frames, however the stream is cut.
//!
//! Chapter: The wire > Frames

use super::*;

/// A frame is four bytes of length, the highest first, and then the payload; an empty frame is a frame.
///
/// The bytes here are written by hand. An encoder and a decoder with the same mistake would agree with each
/// other, and with no other program.
///
/// Hint: `BufMut::put_u32` writes the highest byte first.
#[test]
fn a_frame_is_written_as_its_length_and_its_payload() {
    run(async || {
        let long = [b'x'; 0x102];
        let wire = [b"\x00\x00\x00\x05hello\x00\x00\x00\x00\x00\x00\x01\x02".as_slice(), &long].concat();
        let mut out = Vec::new();
        let mut writer = FrameWriter::new(&mut out);
        assert_eq!((writer.queued(), writer.needs_flush()), (0, false), "there is nothing to write yet");
        for payload in [b"hello".as_slice(), b"", &long] {
            writer.queue(payload.to_vec().into()).unwrap();
        }
        assert_eq!((writer.queued(), writer.needs_flush()), (wire.len(), true));
        within("the flush", writer.flush()).await.unwrap();
        assert_eq!((writer.queued(), writer.needs_flush()), (0, false), "everything is written");
        assert_eq!(out.escape_ascii().to_string(), wire.escape_ascii().to_string());
    });
}

/// The reader finds the frames again, one for each call of `read`, and then the end of the stream.
///
/// A length of 0 is a frame as well, and not the end. The length counts the payload and not itself.
///
/// Hint: take the length off the buffer, then the payload. `u32::from_be_bytes` reads what the test before
/// wrote.
#[test]
fn a_frame_is_read_by_its_length() {
    run(async || {
        let long = [b'x'; 0x102];
        let wire = [b"\x00\x00\x00\x05hello\x00\x00\x00\x00\x00\x00\x01\x02".as_slice(), &long].concat();
        let mut reader = FrameReader::new(Pieces::new([wire]));
        for payload in [b"hello".as_slice(), b"", &long] {
            let read = within("a frame", reader.read(1000)).await.unwrap();
            assert_eq!(read.as_deref(), Some(payload));
        }
        assert_eq!(within("the end of the stream", reader.read(1000)).await.unwrap(), None);
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
        1 => Just(vec![1]),          // one byte a read, which takes its time
        4 => Just(vec![usize::MAX]), // everything in one read
        4 => prop::collection::vec(1..5000_usize, 1..10),
    ];
    proptest!(proptest_config(), |(payloads in payloads, sizes in sizes)| {
        run(async move || {
            let wire: Vec<u8> = payloads.iter().flat_map(frame).collect();
            let mut reader = FrameReader::new(Pieces::cut(&wire, &sizes));
            for payload in &payloads {
                let read = within("a frame", reader.read(6000)).await.unwrap();
                assert_eq!(read.as_deref(), Some(&payload[..]));
            }
            assert_eq!(within("the end of the stream", reader.read(6000)).await.unwrap(), None);
        });
    });
}

/// A `read` that is dropped half-way loses nothing: the next one goes on where it was.
///
/// In a `select!` the branch that loses is dropped, and reading is often the one that loses. A reader that
/// keeps half a frame in a local variable (`read_exact` does) forgets it, and takes the middle of a frame
/// for the next length.
///
/// Hint: everything that has arrived belongs in the reader, and nothing of it in the future.
#[test]
fn a_dropped_read_loses_nothing() {
    run(async || {
        let (mut client, io) = duplex(64);
        let mut reader = FrameReader::new(io);
        let payloads = ["first", "", "the third frame"];
        let mut frames = Vec::new();
        for byte in payloads.iter().flat_map(frame) {
            within("a byte on its way", client.write_all(&[byte])).await.unwrap();
            // Three polls, each of a new future.
            for _ in 0..3 {
                frames.extend(poll_once(reader.read(1000)).await.map(|read| read.unwrap().unwrap()));
            }
        }
        assert_eq!(frames, payloads);
    });
}

/// A frame over the limit is refused as soon as its length is known, and before anything is allocated for
/// it; a frame of exactly the limit is fine.
///
/// The length is the peer's word. Four bytes must not make us allocate four gigabytes.
///
/// Hint: the stream of this test notes how large a buffer it was given to fill.
#[test]
fn a_length_over_the_limit_is_refused_before_allocating() {
    run(async || {
        const MAX: usize = 8 * 1024 * 1024;
        for len in [u32::MAX, MAX as u32 + 1] {
            let pieces = Pieces::new([Vec::from(len.to_be_bytes()), b"what follows".to_vec()]);
            let (io, seen) = Watched::new(pieces);
            let read = within("a refusal", FrameReader::new(io).read(MAX)).await;
            assert!(is_too_large(read, len as usize, MAX), "a length of {len} must be refused");
            let largest = seen.largest_buffer.load(SeqCst);
            assert!(largest < 1024 * 1024, "{largest} bytes were allocated for a frame that is refused");
        }
        let payload = vec![7; MAX];
        let mut reader = FrameReader::new(Pieces::new([frame(&payload)]));
        let read = within("a frame of exactly the limit", reader.read(MAX)).await.unwrap();
        assert!(read.as_deref() == Some(&payload[..]));
    });
}

/// The end of the stream between two frames is the normal end; inside a frame it is an error.
///
/// Half a frame is not a short frame: a reader that takes it for one works with bytes that the peer never sent.
///
/// Hint: when a read brings nothing more, look at what is left in the buffer. Nothing is the normal end;
/// anything else is `ErrorKind::UnexpectedEof`.
#[test]
fn the_end_between_two_frames_is_told_from_the_end_inside_one() {
    run(async || {
        let whole = frame("whole");
        for cut in 0..whole.len() {
            let mut reader = FrameReader::new(Pieces::new([&whole[..], &whole[..cut]].map(Vec::from)));
            let first = within("the whole frame", reader.read(100)).await.unwrap();
            assert_eq!(first.as_deref(), Some(b"whole".as_slice()));
            match within("the end of the stream", reader.read(100)).await {
                Ok(None) => assert_eq!(cut, 0, "{cut} bytes of a frame are not the end between two"),
                Err(Error::Io(error)) => {
                    assert_ne!(cut, 0, "the end between two frames is no error");
                    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "after {cut} bytes");
                }
                other => panic!("after {cut} bytes: {other:?}"),
            }
        }
    });
}
