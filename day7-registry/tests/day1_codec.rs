//! Day 1: from bytes to messages, and a server that answers them.
//!
//! The order is that of the lesson: frames, codecs, messages, the handshake, one connection, the server.
//! Work through it from the top: each part stands on the one before. What goes over the wire is written
//! out by hand here, so that no test checks our encoder with our own decoder alone.

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use day7_registry::handshake::{accept, offer};
use day7_registry::{
    Codec, DEFAULT_MAX_FRAME_LEN, Error, FrameReader, FrameWriter, Handler, Header, Listener, MAGIC_NUMBER,
    MAX_HANDSHAKE_LEN, MAX_QUEUED_BYTES, Message, MessageReader, MessageWriter, Options, Reply, Request,
    Server,
};
use proptest::prelude::*;
use serde_json::json;
use support::io::{CountReads, CountWrites, OneByte, Script};
use support::peer::{Peer, frame, json_error, json_message, options};
use support::{STEP, Sum, alive_tasks, arith, run, run_paused, run_threads, start, start_on, within};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::sync::{Barrier, Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

// ---- helpers of this suite -------------------------------------------------------------------------------

/// A stream that delivers exactly these pieces, and is not ready before each of them. It notes the largest
/// buffer that it was given to fill: that is how much the reader had allocated.
struct Pieces {
    pieces: VecDeque<Bytes>,
    is_ready: bool,
    largest_buffer: Arc<AtomicUsize>,
}

impl Pieces {
    fn new(pieces: impl IntoIterator<Item = impl Into<Bytes>>) -> Pieces {
        let pieces = pieces.into_iter().map(Into::into).filter(|piece: &Bytes| !piece.is_empty()).collect();
        Pieces { pieces, is_ready: false, largest_buffer: Arc::default() }
    }

    /// Cuts `bytes` into pieces of these sizes, again and again.
    fn cut(bytes: &[u8], sizes: &[usize]) -> Pieces {
        let mut sizes = sizes.iter().cycle();
        let mut pieces = Vec::new();
        let mut rest = Bytes::copy_from_slice(bytes);
        while !rest.is_empty() {
            let size = sizes.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len()));
            pieces.push(rest.split_to(size));
        }
        Pieces::new(pieces)
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.largest_buffer.fetch_max(buf.remaining(), SeqCst);
        self.is_ready = !self.is_ready;
        if self.is_ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(piece) = self.pieces.front_mut() {
            buf.put_slice(&piece.split_to(piece.len().min(buf.remaining())));
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Any stream; notes the largest buffer that it was given to fill.
struct Watched<Io> {
    io: Io,
    largest_buffer: Arc<AtomicUsize>,
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.largest_buffer.fetch_max(buf.remaining(), SeqCst);
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Watched<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A listener that tells when it was asked for a connection.
struct Timed<L> {
    listener: L,
    asked: mpsc::UnboundedSender<Instant>,
}

impl<L: Listener> Listener for Timed<L> {
    type Io = L::Io;

    async fn accept(&mut self) -> std::io::Result<L::Io> {
        self.asked.send(Instant::now()).ok();
        self.listener.accept().await
    }
}

/// Sends one message when it is dropped.
struct OnDrop(mpsc::UnboundedSender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.send(()).ok();
    }
}

/// Polls a future once, then drops it: what `select!` does to the branch that loses.
async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        Poll::Ready(if let Poll::Ready(value) = future.as_mut().poll(cx) { Some(value) } else { None })
    })
    .await
}

/// Serves one connection in memory. The task's outcome is what `serve_connection` returned.
fn serve_in_memory(server: Server) -> (Peer<DuplexStream>, JoinHandle<Result<(), Error>>) {
    let (client, io) = duplex(64 * 1024);
    (Peer { io: client }, tokio::spawn(async move { server.serve_connection(io).await }))
}

/// Reads and compares as it goes, so that a wrong length fails as a difference and not as a long wait.
async fn expect_bytes<Io: AsyncRead + Unpin>(io: &mut Io, expected: &[u8]) {
    let mut got = Vec::new();
    while got.len() < expected.len() {
        let mut buf = vec![0; expected.len() - got.len()];
        let n = within("the bytes of the answer", io.read(&mut buf)).await.unwrap();
        got.extend_from_slice(&buf[..n]);
        let same = n > 0 && expected.starts_with(&got);
        assert!(same, "\n     got {}\nexpected {}", got.escape_ascii(), expected.escape_ascii());
    }
}

fn proptest_config() -> ProptestConfig {
    ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() }
}

fn is_too_large<T>(result: Result<T, Error>, expected_len: usize, expected_max: usize) -> bool {
    matches!(result, Err(Error::FrameTooLarge { len, max }) if (len, max) == (expected_len, expected_max))
}

// ---- frames ----------------------------------------------------------------------------------------------
// Chapter: The wire > Frames; Files of today > src/frame.rs

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

/// How much memory the process has touched and not given back.
#[cfg(target_os = "linux")]
fn resident_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

/// When a large frame has been read and dropped, its memory goes with it, and what arrived behind it stays.
///
/// A buffer grows to its largest frame. If it is kept, ten thousand idle connections that have once sent a
/// megabyte hold ten gigabytes.
///
/// Hint: a part of a `BytesMut` keeps all of it. What is left behind a large frame can move to a new one.
#[test]
#[cfg(target_os = "linux")] // it asks the system how much memory the process has
fn the_memory_of_a_large_frame_is_not_kept() {
    run(async || {
        let large = Bytes::from(frame(vec![7; 8 * 1024 * 1024]));
        let behind = Bytes::from(frame("behind it"));
        let before = resident_mib();
        let mut idle = Vec::new();
        for _ in 0..40 {
            let pieces = [large.clone(), behind.slice(..6), behind.slice(6..)];
            let mut reader = FrameReader::new(Pieces::new(pieces), DEFAULT_MAX_FRAME_LEN);
            let read = within("the large frame", reader.read()).await.unwrap();
            assert!(read.as_deref() == Some(&large[4..]));
            drop(read);
            let read = within("the frame behind it", reader.read()).await.unwrap();
            assert_eq!(read.as_deref(), Some(b"behind it".as_slice()));
            idle.push(reader);
        }
        let kept = resident_mib().saturating_sub(before);
        assert!(kept < 160, "40 readers, idle after a frame of 8 MiB each, hold {kept} MiB");
    });
}

/// When a long header has been written, or was too long to be sent, its memory goes with it.
///
/// A header is encoded into the buffer that goes to the system, and a reply's header repeats the name that the
/// client asked for. One name of megabytes, sent once, must not make an idle connection that large for ever.
///
/// Hint: a `BytesMut` that was emptied still has its room.
#[test]
#[cfg(target_os = "linux")] // it asks the system how much memory the process has
fn the_memory_of_a_long_header_is_not_kept() {
    run(async || {
        let header = Header { service_method: "x".repeat(7 * 1024 * 1024), seq: 1, error: None };
        let before = resident_mib();
        let mut idle = Vec::new();
        for number in 0..100 {
            let is_too_long = number % 2 == 1;
            let limit = if is_too_long { 1024 * 1024 } else { DEFAULT_MAX_FRAME_LEN };
            let mut writer = MessageWriter::new(FrameWriter::new(tokio::io::sink(), limit), Codec::Bincode);
            assert_eq!(writer.queue(&header, Bytes::new()).is_err(), is_too_long);
            within("the flush", writer.flush()).await.unwrap();
            if number < 50 {
                let short = Header { service_method: "Arith.sum".into(), seq: 2, error: None };
                writer.queue(&short, Bytes::new()).unwrap();
                within("the flush of a short one", writer.flush()).await.unwrap();
            }
            idle.push(writer);
        }
        let kept = resident_mib().saturating_sub(before);
        assert!(kept < 120, "100 writers, idle after a header of 7 MiB each, hold {kept} MiB");
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

// ---- codecs ----------------------------------------------------------------------------------------------
// Chapter: The wire > In bincode; Files of today > src/codec.rs

/// What one side encodes, the other side decodes to the same value, in every codec.
///
/// Texts of any script, numbers at their ends, lists in maps, values that are not there: a codec that loses
/// one of them answers calls wrongly, and reports no error.
///
/// Hint: serde does the work, and each codec has one function for each direction: `serde_json::to_writer` and
/// `from_slice`, `bincode::serde::encode_into_std_write` and `decode_from_slice`.
#[test]
fn every_codec_decodes_what_it_encodes() {
    type Value = (Vec<(String, i64)>, Option<f64>, BTreeMap<String, Vec<u8>>, char, bool, (), u64);
    let finite = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO;
    let map = prop::collection::btree_map(any::<String>(), prop::collection::vec(any::<u8>(), 0..20), 0..5);
    let list = prop::collection::vec(any::<(String, i64)>(), 0..5);
    proptest!(proptest_config(), |(list in list, number in prop::option::of(finite), map in map, rest: (char, bool, u64))| {
        let value: Value = (list, number, map, rest.0, rest.1, (), rest.2);
        for codec in Codec::ALL {
            let bytes = codec.encode(&value).unwrap();
            prop_assert_eq!(&codec.decode::<Value>(&bytes).unwrap(), &value);
        }
    });
    // Small on the wire and larger in memory, and well within the limits.
    let numbers: Vec<u64> = (0..300_000).collect();
    for codec in Codec::ALL {
        let bytes = codec.encode(&numbers).unwrap();
        assert!(codec.decode::<Vec<u64>>(&bytes).unwrap() == numbers);
    }
}

/// Bytes that are left over after a value are an error, in every codec.
///
/// bincode stops at the end of the value and says nothing about the rest. But a rest means that the two
/// sides do not agree on the type, and then the value is wrong, too.
///
/// Hint: `decode_from_slice` returns how many bytes it used.
#[test]
fn bytes_left_over_after_a_value_are_an_error() {
    for (codec, wire) in [(Codec::Json, b"300".as_slice()), (Codec::Bincode, b"\xfb\x2c\x01")] {
        assert_eq!(codec.decode::<u64>(wire).unwrap(), 300);
        let more = [wire, b"\x07"].concat();
        let error = codec.decode::<u64>(&more).expect_err("one byte is left over");
        assert!(matches!(error, Error::Decode { codec: named, .. } if named == codec), "{error:?}");
    }
}

/// A hostile length in a bincode body is an error: it neither panics nor allocates what it claims.
///
/// `fd ff ff ff ff ff ff ff ff` says: 18,446,744,073,709,551,615 elements follow. Without a limit, bincode
/// believes it, and the process panics or aborts.
///
/// Hint: `bincode::config::Configuration::with_limit`.
#[test]
fn a_hostile_length_in_bincode_is_an_error() {
    fn refused<T: serde::de::DeserializeOwned + std::fmt::Debug>(wire: &[u8]) {
        let error = Codec::Bincode.decode::<T>(wire).expect_err("a length that is not there");
        assert!(matches!(error, Error::Decode { .. }), "{error:?}");
    }
    for len in [u64::MAX, 1 << 62, 1 << 40] {
        let wire = [&b"\xfd"[..], &len.to_le_bytes(), b"abc"].concat();
        refused::<Vec<u8>>(&wire);
        refused::<String>(&wire);
        refused::<Vec<u64>>(&wire);
        refused::<Vec<String>>(&wire);
        refused::<Vec<Vec<String>>>(&wire);
        refused::<BTreeMap<u64, u64>>(&wire);
        refused::<Header>(&wire);
    }
}

/// No bytes make a codec panic.
///
/// They come from the network: anybody may have written them. A panic would cost more than the one call that
/// they belong to.
///
/// Hint: `decode` ends with a value or with `Error::Decode`; there is nothing in it to `unwrap`.
#[test]
fn no_bytes_make_a_codec_panic() {
    proptest!(proptest_config(), |(wire in prop::collection::vec(any::<u8>(), 0..200))| {
        for codec in Codec::ALL {
            // If they are a value by chance, then it is one that can be written again.
            if let Ok(value) = codec.decode::<Header>(&wire) {
                prop_assert!(codec.encode(&value).is_ok());
            }
            if let Ok(value) = codec.decode::<(Vec<String>, Option<Vec<u64>>, i128)>(&wire) {
                prop_assert!(codec.encode(&value).is_ok());
            }
            if let Ok(value) = codec.decode::<BTreeMap<String, Vec<char>>>(&wire) {
                prop_assert!(codec.encode(&value).is_ok());
            }
        }
    });
}

/// A codec is found by its name on the wire; for a name that is none, the error says what was given and what
/// is accepted.
///
/// The name comes from a peer or from somebody's configuration, and whoever wrote it cannot see the source.
///
/// Hint: `Codec::from_name` finds it; `FromStr` adds the error that explains.
#[test]
fn an_unknown_codec_name_is_told_what_is_accepted() {
    assert_eq!(Codec::from_str("application/json").unwrap(), Codec::Json);
    assert_eq!(Codec::from_str("application/bincode").unwrap(), Codec::Bincode);
    let text = Codec::from_str("application/gob").expect_err("there is no such codec").to_string();
    for word in ["application/gob", "application/json", "application/bincode"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
}

// ---- messages --------------------------------------------------------------------------------------------
// Chapter: The wire > Messages; Files of today > src/message.rs

/// A message is two frames, and a `read` that is dropped between or inside them loses nothing.
///
/// The reader of messages stands on the reader of frames, but that one's cancellation safety is not enough:
/// the header has been read, and the body has not.
///
/// Hint: the header that waits for its body belongs into the reader, too.
#[test]
fn a_dropped_message_read_keeps_the_header() {
    run(async || {
        let (mut client, io) = duplex(64);
        let mut reader = MessageReader::new(FrameReader::new(io, 1000), Codec::Json);
        let wire = [json_message("Arith.sum", 1, json!([1, 2])), json_error("Arith.fail", 2, "no")].concat();
        let mut messages = Vec::new();
        for byte in wire {
            within("a byte on its way", client.write_all(&[byte])).await.unwrap();
            for _ in 0..3 {
                messages.extend(poll_once(reader.read()).await.map(|read| read.unwrap().unwrap()));
            }
        }
        let header = |service_method: &str, seq, error: Option<&str>| Header {
            service_method: service_method.to_owned(),
            seq,
            error: error.map(str::to_owned),
        };
        assert_eq!(
            messages,
            [
                Message { header: header("Arith.sum", 1, None), body: "[1,2]".into() },
                Message { header: header("Arith.fail", 2, Some("no")), body: "".into() },
            ]
        );
    });
}

/// The end of the stream between a header and its body is an error, and not the normal end.
///
/// The reader of frames sees nothing wrong: the frame before the end was whole. But half a message is lost,
/// and somebody may wait for it.
///
/// Hint: the `None` of the frame reader means two things; whether a header waits for its body tells them
/// apart.
#[test]
fn the_end_between_a_header_and_its_body_is_an_error() {
    run(async || {
        let header = frame(r#"{"service_method":"Arith.sum","seq":1,"error":null}"#);
        let mut reader = MessageReader::new(FrameReader::new(Pieces::new([header]), 1000), Codec::Json);
        let read = within("the end of the stream", reader.read()).await;
        assert!(matches!(read, Err(Error::Protocol(_))), "{read:?}");
    });
}

/// A message that cannot be sent leaves nothing on the wire, not even its header.
///
/// GeeRPC writes the header and then encodes the body. When that fails, a header without a body is on the
/// wire, and the next message is read as the body.
///
/// Hint: check everything that can fail before the first byte is queued.
#[test]
fn a_message_that_cannot_be_sent_queues_nothing() {
    run(async || {
        let header = Header { service_method: "Arith.sum".to_owned(), seq: 1, error: None };
        let long = Header { service_method: "x".repeat(101), ..header.clone() };
        let mut out = Vec::new();
        let mut writer = MessageWriter::new(FrameWriter::new(&mut out, 100), Codec::Json);
        assert!(is_too_large(writer.queue(&header, vec![b' '; 101].into()), 101, 100));
        writer.queue(&long, Bytes::new()).expect_err("this header is too long");
        assert_eq!((writer.queued(), writer.needs_flush()), (0, false));

        writer.queue(&header, "3".into()).unwrap();
        within("the flush", writer.flush()).await.unwrap();
        let wire = b"\0\0\0\x33{\"service_method\":\"Arith.sum\",\"seq\":1,\"error\":null}\0\0\0\x013";
        assert_eq!(out.escape_ascii().to_string(), wire.escape_ascii().to_string());
    });
}

// ---- the handshake, and the wire as a whole --------------------------------------------------------------
// Chapter: The wire > Handshake; The wire > One call, in both codecs

/// The wire in JSON, byte for byte: the handshake, a request and its reply, a request and its error.
///
/// Whoever writes a client in another language reads this. If it changes, every client out there breaks.
///
/// Hint: serde writes the fields of a struct in the order in which they are declared.
#[test]
fn the_wire_in_json_byte_for_byte() {
    run(async || {
        let server = start(Server::new(arith())).await;
        let mut peer = Peer::connect(server.addr).await;
        peer.send(b"\0\0\0\x36{\"magic_number\":3927900,\"codecs\":[\"application/json\"]}").await;
        expect_bytes(&mut peer.io, b"\0\0\0\x1c{\"codec\":\"application/json\"}").await;

        peer.send(b"\0\0\0\x33{\"service_method\":\"Arith.sum\",\"seq\":1,\"error\":null}").await;
        peer.send(b"\0\0\0\x13{\"num1\":1,\"num2\":2}").await;
        let reply = b"\0\0\0\x33{\"service_method\":\"Arith.sum\",\"seq\":1,\"error\":null}\0\0\0\x013";
        expect_bytes(&mut peer.io, reply).await;

        peer.send(b"\0\0\0\x34{\"service_method\":\"Arith.fail\",\"seq\":2,\"error\":null}").await;
        peer.send(b"\0\0\0\x17{\"message\":\"100% full\"}").await;
        let header = b"\0\0\0\x3b{\"service_method\":\"Arith.fail\",\"seq\":2,\"error\":\"100% full\"}";
        expect_bytes(&mut peer.io, header).await;
        expect_bytes(&mut peer.io, b"\0\0\0\0").await;
    });
}

/// The wire in bincode, byte for byte. The handshake is JSON all the same.
///
/// A length or a number below 251 is one byte, a larger one `fb` and two bytes, the lowest first; a signed
/// number is doubled first (1 is `02`, -1 is `01`); `None` is `00`, `Some` is `01` and the value.
///
/// Hint: `bincode::config::standard()`.
#[test]
fn the_wire_in_bincode_byte_for_byte() {
    run(async || {
        let server = start(Server::new(arith())).await;
        let mut peer = Peer::connect(server.addr).await;
        let options = br#"{"magic_number":3927900,"codecs":["application/bincode","application/json"]}"#;
        peer.send(&[b"\0\0\0\x4c", &options[..]].concat()).await;
        expect_bytes(&mut peer.io, b"\0\0\0\x1f{\"codec\":\"application/bincode\"}").await;

        peer.send(b"\0\0\0\x0c\x09Arith.sum\x01\x00\0\0\0\x02\x02\x04").await;
        expect_bytes(&mut peer.io, b"\0\0\0\x0c\x09Arith.sum\x01\x00\0\0\0\x01\x06").await;

        peer.send(b"\0\0\0\x0f\x0aArith.fail\xfb\x2c\x01\x00\0\0\0\x0a\x09100% full").await;
        let error = b"\0\0\0\x19\x0aArith.fail\xfb\x2c\x01\x01\x09100% full\0\0\0\0";
        expect_bytes(&mut peer.io, error).await;
    });
}

/// The first codec of the client's list that the server speaks wins. Names and fields that the server does
/// not know are ignored, and the server's own list can be shortened.
///
/// That is what lets old and new peers talk: a client of next year may offer a codec of next year first.
///
/// Hint: the client's order counts, not the server's. And do not deny unknown fields.
#[test]
fn the_first_codec_in_common_wins_and_the_unknown_is_ignored() {
    run(async || {
        let (bincode, json) = ("application/bincode", "application/json");
        let any = start(Server::new(arith())).await;
        let only_json = start(Server::new(arith()).codecs([Codec::Json])).await;
        let cases = [
            (&any, vec![bincode, json], bincode),
            (&any, vec![json, bincode], json),
            (&any, vec!["application/gob", "", json, bincode], json),
            (&only_json, vec![bincode, json], json),
        ];
        for (server, codecs, chosen) in cases {
            let options = json!({
                "magic_number": MAGIC_NUMBER,
                "codecs": codecs,
                "of_next_year": {"compression": ["zstd"]},
            });
            let mut peer = Peer::connect(server.addr).await;
            peer.send(&frame(options.to_string())).await;
            assert_eq!(peer.read_json().await, json!({ "codec": chosen }), "for {codecs:?}");
        }
    });
}

/// A handshake and the first request in one write are both read: the bytes behind the handshake are not lost.
///
/// In GeeRPC a JSON decoder with a buffer of its own reads the handshake, and then the buffer is thrown away
/// with the first request in it. Of 40 first calls that were sent at once, 23 were lost.
///
/// Hint: one reader, with one buffer, for the whole connection.
#[test]
fn a_request_in_one_write_with_the_handshake_is_not_lost() {
    run(async || {
        let server = start(Server::new(arith())).await;
        let mut peer = Peer::connect(server.addr).await;
        let request = json_message("Arith.sum", 1, json!({"num1": 1, "num2": 2}));
        peer.send(&[options(&["application/json"]), request].concat()).await;
        assert_eq!(peer.read_json().await, json!({"codec": "application/json"}));
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error(), reply.value()), (1, "", json!(3)));
    });
}

/// The same exchange works when every read and every write of the server moves a single byte.
///
/// The other extreme: the test before brings everything at once, and this one next to nothing. Each read and
/// each write is cut, and has to go on where it stopped.
///
/// Hint: nothing to do, if all reading goes through the frame reader and all writing through the frame
/// writer.
#[test]
fn a_handshake_and_a_request_one_byte_at_a_time() {
    run(async || {
        let (client, io) = duplex(1);
        let server = Server::new(arith());
        tokio::spawn(async move { server.serve_connection(OneByte(io)).await });
        let mut peer = Peer { io: client };
        peer.shake_hands_json().await;
        for seq in 1..=3 {
            peer.send(&json_message("Arith.sum", seq, json!({"num1": seq, "num2": 2}))).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.error(), reply.value()), (seq, "", json!(seq + 2)));
        }
    });
}

/// Whoever knocks with something else gets an answer that says why, and then the end of the stream: another
/// magic number, no codec in common, no JSON, a browser, a TLS client.
///
/// "Connection closed" is the least helpful error there is. An HTTP request and a TLS hello look like frames
/// of a gigabyte and more; they are refused by their length, and read an answer all the same.
///
/// Hint: the answer must fit a handshake frame whatever the peer sent, so do not repeat all of it.
#[test]
fn whoever_cannot_be_served_is_told_why() {
    run(async || {
        let server = start(Server::new(arith()).codecs([Codec::Json])).await;
        let magic = json!({"magic_number": 42, "codecs": ["application/json"]}).to_string();
        let http = b"GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n";
        let tls_hello = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &[0xa5; 506]].concat();
        let cases = [
            (frame(magic), ["42", "3927900"]),
            (options(&["application/gob"]), ["no codec", "application/json"]),
            (options(&["application/bincode"]), ["no codec", "application/json"]),
            (options(&[]), ["no codec", "application/json"]),
            (frame("hello"), ["handshake", "json"]),
            (frame(""), ["handshake", "json"]),
            (frame(r#"{"magic_number":3927900}"#), ["handshake", "codecs"]),
            (frame(json!("x".repeat(4090)).to_string()), ["handshake", "string"]),
            (frame(json!("\u{1}".repeat(680)).to_string()), ["handshake", "string"]),
            (http.to_vec(), ["handshake", "4096"]),
            (tls_hello, ["handshake", "4096"]),
        ];
        for (knock, words) in cases {
            let mut peer = Peer::connect(server.addr).await;
            peer.send(&knock).await;
            let answer = peer.read_json().await;
            let text = answer["error"].as_str().unwrap_or_else(|| panic!("no error in {answer}"));
            for word in words {
                assert!(text.contains(word), "{word:?} is missing in {text:?}");
            }
            assert_eq!(answer["codec"], json!(null));
            peer.expect_end().await;
        }
    });
}

/// On the client's side a refusal is a typed error, in the server's words; so is a server that chooses what
/// was not offered.
///
/// In GeeRPC dialing a server that refuses the codec succeeds, and the first call fails with an EOF.
///
/// Hint: whatever is wrong with the answer is `Error::Handshake`. Check that the codec is one that you
/// offered.
#[test]
fn a_refused_handshake_is_a_typed_error_for_the_client() {
    async fn answered_with(answer: &str) -> Result<Codec, Error> {
        let (io, server) = duplex(4096);
        let (read, write) = tokio::io::split(io);
        let mut reader = FrameReader::new(read, MAX_HANDSHAKE_LEN);
        let mut writer = FrameWriter::new(write, MAX_HANDSHAKE_LEN);
        let mut peer = Peer { io: server };
        peer.send(&frame(answer)).await;
        let options = Options::default().codecs([Codec::Json]);
        within("the end of the handshake", offer(&mut reader, &mut writer, &options)).await
    }
    run(async || {
        assert_eq!(answered_with(r#"{"codec":"application/json","new":1}"#).await.unwrap(), Codec::Json);
        match answered_with(r#"{"error":"we are closed"}"#).await {
            Err(Error::Handshake(reason)) => assert_eq!(reason, "we are closed"),
            other => panic!("{other:?}"),
        }
        for nonsense in [r#"{"codec":"application/bincode"}"#, r#"{"codec":"x"}"#, "{}", "hello", "[]"] {
            let result = answered_with(nonsense).await;
            assert!(matches!(result, Err(Error::Handshake(_))), "{nonsense}: {result:?}");
        }
    });
}

/// Both sides of the library's own handshake agree, and the server learns the options that were sent.
///
/// The other tests play one of the two sides by hand. Here they meet.
///
/// Hint: `offer` sends a frame and then reads one, `accept` reads one and then sends one.
#[test]
fn offer_and_accept_agree() {
    run(async || {
        let (client, server) = duplex(4096);
        let (read, write) = tokio::io::split(client);
        let mut reader = FrameReader::new(read, MAX_HANDSHAKE_LEN);
        let mut writer = FrameWriter::new(write, MAX_HANDSHAKE_LEN);
        let options = Options::default();
        let offered = offer(&mut reader, &mut writer, &options);

        let (read, write) = tokio::io::split(server);
        let mut reader = FrameReader::new(read, MAX_HANDSHAKE_LEN);
        let mut writer = FrameWriter::new(write, MAX_HANDSHAKE_LEN);
        let accepted = accept(&mut reader, &mut writer, &[Codec::Json]);

        let (offered, accepted) = within("the handshake", async { tokio::join!(offered, accepted) }).await;
        let (codec, seen) = accepted.unwrap();
        assert_eq!((offered.unwrap(), codec), (Codec::Json, Codec::Json));
        let sent = |options: &Options| serde_json::to_value(options).unwrap();
        assert_eq!(sent(&seen), sent(&options));
    });
}

/// Every codec that the server says it speaks works, from the handshake to the reply.
///
/// GeeRPC names `application/json` among its codecs, and there is no such codec behind the name.
///
/// Hint: the names on the wire come from the list of the codecs, so there can be no name without a codec.
#[test]
fn every_codec_that_the_server_offers_works() {
    run(async || {
        let server = start(Server::new(arith())).await;
        let mut peer = Peer::connect(server.addr).await;
        peer.send(&options(&["application/none"])).await;
        let refusal = peer.read_json().await["error"].as_str().unwrap().to_owned();
        let names: Vec<&str> =
            refusal.split([' ', ',']).filter(|word| word.starts_with("application/")).collect();
        assert_eq!(names, ["application/bincode", "application/json"]);

        for name in names {
            let mut peer = Peer::connect(server.addr).await;
            peer.send(&options(&[name])).await;
            assert_eq!(peer.read_json().await, json!({ "codec": name }));
            let codec = Codec::from_str(name).unwrap();
            let header = Header { service_method: "Arith.sum".to_owned(), seq: 1, error: None };
            peer.send(&frame(codec.encode(&header).unwrap())).await;
            peer.send(&frame(codec.encode(&Sum { num1: 20, num2: 22 }).unwrap())).await;
            assert_eq!(codec.decode::<Header>(&peer.read_frame().await).unwrap(), header, "{name}");
            assert_eq!(codec.decode::<i32>(&peer.read_frame().await).unwrap(), 42, "{name}");
        }
    });
}

// ---- one connection --------------------------------------------------------------------------------------
// Chapter: Files of today > src/connection.rs; Limits

/// Who breaks the rules of the wire is told why, with `seq` 0, and is disconnected. Nobody else notices.
///
/// After a header that makes no sense nobody knows which call to answer, nor what comes next. The rules: a
/// header that decodes, a `seq` that is not 0, a body after each header, no frame over the limit.
///
/// Hint: `Header::goodbye`; flush it before closing.
#[test]
fn who_breaks_the_rules_is_told_why_and_nobody_else_notices() {
    run(async || {
        let server = start(Server::new(arith()).max_frame_len(1000)).await;
        let mut neighbour = Peer::connect_json(server.addr).await;
        let cases = [
            ([frame("no header"), frame("1")].concat(), "bad header"),
            (frame(r#"{"service_method":"Arith.sum","seq":-1,"error":null}"#), "bad header"),
            (frame(json!("x".repeat(990)).to_string()), "bad header"),
            (json_message("Arith.sum", 0, json!({"num1": 1, "num2": 2})), "seq 0"),
            (frame("x".repeat(1001)), "1000"),
            (b"\xff\xff\xff\xff".to_vec(), "1000"),
        ];
        for (broken, word) in cases {
            let mut peer = Peer::connect_json(server.addr).await;
            peer.send(&broken).await;
            let goodbye = peer.read_message().await;
            assert_eq!((goodbye.seq(), goodbye.body.len()), (0, 0));
            assert!(goodbye.error().contains(word), "{word:?} is missing in {:?}", goodbye.error());
            peer.expect_end().await;

            neighbour.expect_service().await;
        }
    });
}

/// The reason for a disconnection reaches a peer that is in the middle of a long write, too.
///
/// The peer writes all it has and only then reads. If nobody takes the rest of its bytes, the write fails, and
/// with it goes the answer that says why.
///
/// Hint: after the last word, `FrameReader::discard`, with a limit of bytes and of time.
#[test]
fn a_last_word_reaches_a_peer_in_the_middle_of_a_long_write() {
    run_paused(async || {
        let too_long = frame(vec![b'x'; 8 * 1024 * 1024 + 1]);

        let (mut peer, _served) = serve_in_memory(Server::new(arith()));
        let written = within("a handshake that is far too long", peer.io.write_all(&too_long)).await;
        written.expect("the server must take the rest, or the peer never reads the answer");
        let answer = peer.read_json().await;
        assert!(answer["error"].is_string(), "no error in {answer}");

        let (mut peer, _served) = serve_in_memory(Server::new(arith()));
        peer.shake_hands_json().await;
        let written = within("a frame that is too long", peer.io.write_all(&too_long)).await;
        written.expect("the server must take the rest, or the peer never reads the goodbye");
        let goodbye = peer.read_message().await;
        assert_eq!(goodbye.seq(), 0);
        assert!(goodbye.error().contains("8388608"), "the limit is missing in {:?}", goodbye.error());

        // The same, but the server is in the middle of a long write as well: nobody has read its reply yet.
        let (client, io) = duplex(1024);
        let text = "x".repeat(MAX_QUEUED_BYTES / 2); // not so much that the server stops reading
        let answer = text.clone();
        let server = Server::new(move |request: Request| {
            std::future::ready(request.reply(&answer).map_err(anyhow::Error::from))
        });
        let _served = tokio::spawn(async move { server.serve_connection(io).await });
        let mut peer = Peer { io: client };
        peer.shake_hands_json().await;
        peer.send(&json_message("Test.long", 1, json!(null))).await;
        peer.send(&frame("no header")).await;
        let written = within("a long write after a broken frame", peer.io.write_all(&too_long)).await;
        written.expect("the server must take the rest, or the peer never reads the goodbye");
        assert!(peer.read_message().await.value() == text, "the reply is another one");
        assert_eq!(peer.read_message().await.seq(), 0, "the goodbye follows what was owed");
        peer.expect_end().await;
    });
}

/// `serve_connection` returns when the client ends the stream, and says why if it was not the client's wish.
///
/// Whoever calls it wants to log what is worth a look, and a client that hangs up between two messages is
/// not.
///
/// Hint: tell the peer why before you return the error; but if the peer has gone and cannot be told, return
/// the same error all the same.
#[test]
fn serve_connection_returns_why_it_ended() {
    run(async || {
        let (mut peer, served) = serve_in_memory(Server::new(arith()));
        peer.shake_hands_json().await;
        drop(peer);
        within("the end of the connection", served).await.unwrap().unwrap();

        let (mut peer, served) = serve_in_memory(Server::new(arith()));
        peer.shake_hands_json().await;
        peer.send(&frame("no header")).await;
        drop(peer);
        let ended = within("the end of the connection", served).await.unwrap();
        assert!(matches!(ended, Err(Error::Protocol(_))), "{ended:?}");

        let (mut peer, served) = serve_in_memory(Server::new(arith()));
        peer.send(&options(&["application/none"])).await;
        drop(peer); // without waiting for the answer
        let ended = within("the end of the connection", served).await.unwrap();
        assert!(matches!(ended, Err(Error::Handshake(_))), "{ended:?}");
    });
}

/// A body that does not decode is an error reply; the handler goes no further, and the connection goes on.
///
/// GeeRPC's first day logs the error, and then serves the call with an argument that nobody sent.
///
/// Hint: `request.decode()?`
#[test]
fn a_body_that_does_not_decode_is_an_error_reply() {
    run(async || {
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ran);
        let server = start(Server::new(move |request: Request| {
            let counter = Arc::clone(&counter);
            async move {
                let Sum { num1, num2 } = request.decode()?;
                counter.fetch_add(1, SeqCst);
                Ok(request.reply(&(num1 + num2))?)
            }
        }))
        .await;
        let mut peer = Peer::connect_json(server.addr).await;
        let wrong = [json!("text"), json!({"num1": 1}), json!({"num1": 1, "num2": 3_000_000_000_u32})];
        for (seq, body) in (1..).zip(wrong) {
            peer.send(&json_message("Arith.sum", seq, body)).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.body.len()), (seq, 0));
            assert!(reply.error().contains("cannot decode"), "{:?}", reply.error());
        }
        assert_eq!(ran.load(SeqCst), 0, "the handler worked with an argument that nobody sent");

        peer.send(&json_message("Arith.sum", 9, json!({"num1": 1, "num2": 2}))).await;
        assert_eq!(peer.read_message().await.value(), 3);
        assert_eq!(ran.load(SeqCst), 1);
    });
}

/// A handler with a reply that cannot be sent, and one that waits to be let go.
fn replies_and_waits(release: Arc<Notify>) -> impl Handler {
    move |request: Request| {
        let release = Arc::clone(&release);
        async move {
            match request.service_method() {
                "Reply.tuple_keys" => Ok(request.reply(&BTreeMap::from([((1, 2), 3)]))?),
                "Reply.long" => Ok(request.reply(&"x".repeat(request.decode()?))?),
                _ => {
                    release.notified().await;
                    Ok(request.reply("released")?)
                }
            }
        }
    }
}

/// A reply that cannot be encoded fails its own call, while others in flight go on.
///
/// JSON has no maps with tuples for keys. In GeeRPC such a reply kills every call of the connection.
///
/// Hint: encode the body before anything of the reply is queued.
#[test]
fn a_reply_that_cannot_be_encoded_fails_its_own_call_only() {
    run(async || {
        let release = Arc::new(Notify::new());
        let server = start(Server::new(replies_and_waits(Arc::clone(&release)))).await;
        let mut peer = Peer::connect_json(server.addr).await;
        peer.send(&json_message("Reply.wait", 1, json!(null))).await;
        peer.send(&json_message("Reply.tuple_keys", 2, json!(null))).await;
        let failed = peer.read_message().await;
        assert_eq!((failed.seq(), failed.body.len()), (2, 0));
        assert!(failed.error().contains("cannot encode"), "{:?}", failed.error());

        release.notify_one();
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error(), reply.value()), (1, "", json!("released")));
    });
}

/// A reply over the frame limit fails its own call, while others in flight go on. One of exactly the limit is
/// sent.
///
/// The limit is for what we send, too, or the client would end the connection. A reply that is too long is
/// one method's mistake, and no other call may pay for it.
///
/// Hint: the writer refuses such a frame before it queues any of it. So there is room for an error reply in
/// its place.
#[test]
fn a_reply_over_the_frame_limit_fails_its_own_call_only() {
    run(async || {
        let release = Arc::new(Notify::new());
        let server = Server::new(replies_and_waits(Arc::clone(&release))).max_frame_len(500);
        let server = start(server).await;
        let mut peer = Peer::connect_json(server.addr).await;
        peer.send(&json_message("Reply.wait", 1, json!(null))).await;
        peer.send(&json_message("Reply.long", 2, json!(499))).await;
        let failed = peer.read_message().await;
        assert_eq!((failed.seq(), failed.body.len()), (2, 0));
        assert!(failed.error().contains("500"), "the limit is missing in {:?}", failed.error());

        peer.send(&json_message("Reply.long", 3, json!(498))).await;
        let reply = peer.read_message().await;
        assert_eq!((reply.seq(), reply.error(), reply.body.len()), (3, "", 500));
        release.notify_one();
        assert_eq!(peer.read_message().await.seq(), 1);
    });
}

/// The requests of one connection run at the same time.
///
/// Each of these three waits until all three have arrived. One after the other they would wait for ever.
///
/// Hint: give each handler that is not ready a task of its own, in a `JoinSet`, and read on.
#[test]
fn requests_of_one_connection_run_concurrently() {
    run(async || {
        let barrier = Arc::new(Barrier::new(3));
        let server = start(Server::new(move |request: Request| {
            let barrier = Arc::clone(&barrier);
            async move {
                barrier.wait().await;
                Ok(request.reply(&request.seq())?)
            }
        }))
        .await;
        let mut peer = Peer::connect_json(server.addr).await;
        let mut seqs = Vec::new();
        for seq in 1..=3 {
            peer.send(&json_message("Meet.up", seq, json!(null))).await;
        }
        for _ in 1..=3 {
            seqs.push(peer.read_message().await.seq());
        }
        seqs.sort_unstable();
        assert_eq!(seqs, [1, 2, 3]);
    });
}

/// Replies leave in the order of completion: a slow call does not delay a fast one.
///
/// A server that keeps the order of the requests makes everybody wait for the slowest.
///
/// Hint: `seq` tells the client which call is answered, so there is no order to keep.
#[test]
fn replies_leave_in_the_order_of_completion() {
    run(async || {
        let gates: Arc<[Notify]> = (0..4).map(|_| Notify::new()).collect();
        let handler_gates = Arc::clone(&gates);
        let server = start(Server::new(move |request: Request| {
            let gates = Arc::clone(&handler_gates);
            async move {
                gates[request.seq() as usize].notified().await;
                Ok(request.reply(&request.seq())?)
            }
        }))
        .await;
        let mut peer = Peer::connect_json(server.addr).await;
        for seq in 1..=3 {
            peer.send(&json_message("Wait.here", seq, json!(null))).await;
        }
        for seq in [3, 1, 2] {
            gates[seq].notify_one();
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.value()), (seq as u64, json!(seq)));
        }
    });
}

/// The replies to a batch of requests leave in one write.
///
/// A write is a system call, and with TCP often a packet. One for each header, body or reply is what makes a
/// server slow.
///
/// Hint: queue replies as long as there are requests to read, and flush when there are none.
#[test]
fn the_replies_to_a_batch_leave_in_one_write() {
    run(async || {
        let (client, io) = duplex(64 * 1024);
        let (io, writes) = CountWrites::new(io);
        let server = Server::new(arith());
        tokio::spawn(async move { server.serve_connection(io).await });
        let mut peer = Peer { io: client };
        peer.shake_hands_json().await;
        let before = writes.load(SeqCst);
        let batch: Vec<u8> = (1..=50)
            .flat_map(|seq| json_message("Arith.sum", seq, json!({"num1": seq, "num2": 1})))
            .collect();
        peer.send(&batch).await;
        for seq in 1..=50 {
            assert_eq!(peer.read_message().await.value(), seq + 1);
        }
        assert_eq!(writes.load(SeqCst) - before, 1, "writes for 50 replies");
    });
}

/// A handler that is ready at its first poll is answered without a task of its own.
///
/// Most handlers of a real service wait for nothing, and a task costs more than such an answer.
///
/// Hint: poll the handler's future once yourself, and spawn it if it is not ready.
#[test]
fn a_handler_that_is_ready_at_once_needs_no_task() {
    run(async || {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let handler_seen = Arc::clone(&seen);
        let (mut peer, _served) = serve_in_memory(Server::new(move |request: Request| {
            let seen = Arc::clone(&handler_seen);
            async move {
                if request.service_method() == "Tasks.wait" {
                    tokio::task::yield_now().await;
                }
                seen.lock().unwrap().push(alive_tasks());
                Ok(request.reply(&())?)
            }
        }));
        peer.shake_hands_json().await;
        let before = alive_tasks();
        let batch: Vec<u8> = (1..=50).flat_map(|seq| json_message("Tasks.count", seq, json!(null))).collect();
        peer.send(&batch).await;
        for _ in 1..=50 {
            peer.read_message().await;
        }
        assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), [before; 50]);

        // And this is what a task looks like: the count can tell.
        peer.send(&json_message("Tasks.wait", 51, json!(null))).await;
        peer.read_message().await;
        assert_eq!(*seen.lock().unwrap(), [before + 1]);
    });
}

/// A panic is an error reply for its own call, wherever in the handler it happens.
///
/// Before the future exists, at its first poll, or after it has waited, in a task of its own: three places,
/// and each is caught in another way.
///
/// Hint: `std::panic::catch_unwind`. The panic messages in the output of this test are on purpose.
#[test]
fn a_panic_is_an_error_reply() {
    run(async || {
        let handler = |request: Request| {
            assert_ne!(request.service_method(), "Panic.early", "this panic is part of the test");
            async move {
                assert_ne!(request.service_method(), "Panic.first_poll", "this panic is part of the test");
                tokio::task::yield_now().await;
                assert_ne!(request.service_method(), "Panic.late", "this panic is part of the test");
                Ok(request.reply("fine")?)
            }
        };
        let server = start(Server::new(handler)).await;
        let mut peer = Peer::connect_json(server.addr).await;
        for (seq, method) in (1..).zip(["Panic.early", "Panic.first_poll", "Panic.late"]) {
            peer.send(&json_message(method, seq, json!(null))).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.body.len()), (seq, 0), "{method}");
            assert!(reply.error().contains("panicked"), "{method}: {:?}", reply.error());
        }
        peer.send(&json_message("Panic.not", 9, json!(null))).await;
        assert_eq!(peer.read_message().await.value(), "fine");
    });
}

/// The client is told the error's text and that of its causes, each once.
///
/// Many error types, and those of this library too, repeat their cause in their own text. "bad: bad: bad"
/// helps nobody.
///
/// Hint: walk along `anyhow::Error::chain`, and leave out what the text already ends with.
#[test]
fn the_causes_of_an_error_are_told_once() {
    run(async || {
        let handler = async |request: Request| match request.service_method() {
            "Fail.chain" => Err(anyhow::anyhow!("disk full").context("cannot save").context("100% lost")),
            _ => Ok(request.reply(&request.decode::<Sum>()?)?),
        };
        let server = start(Server::new(handler)).await;
        let mut peer = Peer::connect_json(server.addr).await;
        peer.send(&json_message("Fail.chain", 1, json!(null))).await;
        assert_eq!(peer.read_message().await.error(), "100% lost: cannot save: disk full");
        peer.send(&json_message("Fail.decode", 2, json!({"num1": 1}))).await;
        let reply = peer.read_message().await;
        assert_eq!(reply.error().matches("missing field `num2`").count(), 1, "{:?}", reply.error());
    });
}

/// A name that is too long to be repeated in the reply costs its own call only.
///
/// An error reply repeats the name, and adds its text: with a name that just fits a frame, neither the reply
/// nor the error fits. Closing the connection for that would cost the calls of others.
///
/// Hint: the client finds its call by the `seq`; the last thing to leave out is the name.
#[test]
fn a_name_that_is_too_long_to_repeat_fails_its_own_call_only() {
    run(async || {
        let server = start(Server::new(arith()).max_frame_len(200)).await;
        let mut peer = Peer::connect_json(server.addr).await;
        let too_long = json_message(&"x".repeat(150), 1, json!(null));
        peer.send(&[too_long, json_message("Arith.sum", 2, json!({"num1": 1, "num2": 2}))].concat()).await;
        let reply = peer.read_message().await;
        assert_eq!(reply.seq(), 1);
        assert_ne!(reply.error(), "");
        assert_eq!(peer.read_message().await.value(), 3);
    });
}

/// A panic while an error is turned into text is a panic of the handler, too.
///
/// An error's `Display` is code of the application as well. It runs late, when the handler has returned and
/// nobody expects a panic any more.
///
/// Hint: make the text where panics are caught, not where the reply is sent.
#[test]
fn a_panic_in_the_text_of_an_error_is_an_error_reply() {
    #[derive(Debug)]
    struct Unspeakable;
    impl std::fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("this panic is part of the test")
        }
    }
    impl std::error::Error for Unspeakable {}

    run(async || {
        let handler = async |request: Request| {
            if request.service_method() == "Fail.late" {
                tokio::task::yield_now().await;
            }
            if request.service_method() == "Fail.not" {
                return Ok(request.reply("fine")?);
            }
            Err::<Reply, _>(Unspeakable.into())
        };
        let server = start(Server::new(handler)).await;
        let mut peer = Peer::connect_json(server.addr).await;
        for (seq, method) in (1..).zip(["Fail.first_poll", "Fail.late"]) {
            peer.send(&json_message(method, seq, json!(null))).await;
            let reply = peer.read_message().await;
            assert_eq!(reply.seq(), seq);
            assert!(reply.error().contains("panicked"), "{method}: {:?}", reply.error());
        }
        peer.send(&json_message("Fail.not", 3, json!(null))).await;
        assert_eq!(peer.read_message().await.value(), "fine");
    });
}

/// A handler whose future panics when it is dropped has its reply sent all the same, and harms nobody else.
///
/// The future is dropped after its last poll, with the guards that it holds; a guard's `Drop` is code of the
/// application, and this panic comes where nobody expects one.
///
/// Hint: drop the handler's future where panics are caught.
#[test]
fn a_panic_in_the_drop_of_a_handler_harms_nobody() {
    struct Rude {
        request: Request,
        is_late: bool,
    }
    impl Future for Rude {
        type Output = anyhow::Result<Reply>;

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            if std::mem::take(&mut self.is_late) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok(self.request.reply("done")?))
        }
    }
    impl Drop for Rude {
        fn drop(&mut self) {
            panic!("this panic is part of the test");
        }
    }

    run(async || {
        let handler = |request: Request| {
            let is_late = request.service_method() == "Rude.late";
            Rude { request, is_late }
        };
        let server = start(Server::new(handler)).await;
        let mut peer = Peer::connect_json(server.addr).await;
        for (seq, method) in (1..).zip(["Rude.at_once", "Rude.late", "Rude.at_once"]) {
            peer.send(&json_message(method, seq, json!(null))).await;
            let reply = peer.read_message().await;
            assert_eq!((reply.seq(), reply.error()), (seq, ""), "{method}");
            assert_eq!(reply.value(), "done", "{method}");
        }
    });
}

/// A call more than `max_in_flight` is refused with an error reply, and when one has ended there is room
/// again.
///
/// Without a limit, one client that only sends makes the server start handlers without end. A refusal at once
/// is better than a wait of unknown length: the client can go elsewhere.
///
/// Hint: count the handlers that run before you start one more.
#[test]
fn one_call_more_than_max_in_flight_is_refused() {
    run(async || {
        let release = Arc::new(Notify::new());
        let server = Server::new(replies_and_waits(Arc::clone(&release))).max_in_flight(2);
        let server = start(server).await;
        let mut peer = Peer::connect_json(server.addr).await;
        for seq in 1..=3 {
            peer.send(&json_message("Reply.wait", seq, json!(null))).await;
        }
        let refused = peer.read_message().await;
        assert_eq!((refused.seq(), refused.body.len()), (3, 0));
        assert!(refused.error().contains('2'), "the limit is missing in {:?}", refused.error());

        for seq in 4..=6 {
            release.notify_one();
            let reply = peer.read_message().await;
            assert_eq!((reply.error(), reply.value()), ("", json!("released")));
            peer.send(&json_message("Reply.wait", seq, json!(null))).await;
        }
        peer.send(&json_message("Reply.wait", 7, json!(null))).await;
        let refused = peer.read_message().await;
        assert_eq!(refused.seq(), 7);
        assert_ne!(refused.error(), "");
    });
}

/// A peer that sends without reading is stopped, so the server's memory does not grow; and when it reads
/// again it gets every reply.
///
/// Replies that nobody reads pile up somewhere. A server that goes on reading piles them up in its memory.
///
/// Hint: do not read further requests while many bytes are queued. TCP stops the peer then.
#[test]
fn a_peer_that_does_not_read_is_stopped_and_loses_nothing() {
    run_paused(async || {
        const CALLS: u64 = 2000;
        let served = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&served);
        let server = Server::new(move |request: Request| {
            counter.fetch_add(1, SeqCst);
            async move { Ok(request.reply(&request.decode::<String>()?)?) }
        });
        let (client, io) = duplex(4096);
        tokio::spawn(async move { server.serve_connection(io).await });
        let mut peer = Peer { io: client };
        peer.shake_hands_json().await;

        let text = "x".repeat(1000);
        let requests: Vec<u8> =
            (1..=CALLS).flat_map(|seq| json_message("Echo.text", seq, json!(text))).collect();
        let mut sent = 0;
        // The clock is paused: it moves only when nothing else does, that is when the server has stopped.
        while let Ok(n) =
            tokio::time::timeout(Duration::from_millis(100), peer.io.write(&requests[sent..])).await
        {
            sent += n.unwrap();
            assert!(sent < requests.len() / 2, "the server takes {sent} bytes and nobody reads its replies");
        }
        let bound = MAX_QUEUED_BYTES + 64 * 1024;
        assert!(sent <= bound, "the server took {sent} bytes although nobody reads its replies");
        assert!(served.load(SeqCst) * 1000 <= bound);

        let (mut read, mut write) = tokio::io::split(peer.io);
        let rest = tokio::spawn(async move { write.write_all(&requests[sent..]).await });
        let mut replies = FrameReader::new(&mut read, DEFAULT_MAX_FRAME_LEN);
        for seq in 1..=CALLS {
            let header = within("a reply", replies.read()).await.unwrap().unwrap();
            assert_eq!(Codec::Json.decode::<Header>(&header).unwrap().seq, seq);
            let body = within("a reply's body", replies.read()).await.unwrap().unwrap();
            assert!(Codec::Json.decode::<String>(&body).unwrap() == text);
        }
        within("the rest of the requests", rest).await.unwrap().unwrap();
    });
}

/// Whatever a peer sends, `serve_connection` comes to an end without a panic, allocates no more than a frame
/// may have, and everything it says is whole frames.
///
/// Garbage, garbage in good frames, and good messages at the wrong time: chance tries what nobody thinks of.
///
/// Hint: if it fails, the message ends with the smallest input that does it. Write a test for that one.
#[test]
fn no_bytes_make_a_connection_panic() {
    const MAX: usize = 20_000;
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    let method = prop_oneof![Just("Arith.sum"), Just("Arith.sleep"), Just(""), Just("$/cancel")];
    let piece = prop_oneof![
        bytes(),
        bytes().prop_map(frame),
        Just(frame(r#"{"num1":1,"num2":2}"#)),
        Just(b"\x00\x00\x4e\x20".to_vec()), // announces a frame of 20,000 bytes
        (method, 0..4_u64).prop_map(|(method, seq)| {
            frame(json!({"service_method": method, "seq": seq, "error": null}).to_string())
        }),
    ];
    let hello = prop_oneof![
        1 => Just(Vec::new()),
        2 => Just(options(&["application/json"])),
        2 => Just(options(&["application/bincode"])),
    ];
    let server = Server::new(arith()).max_frame_len(MAX);
    proptest!(proptest_config(), |(hello in hello, pieces in prop::collection::vec(piece, 0..8))| {
        let server = server.clone();
        run(async move || {
            let (mut client, io) = duplex(64 * 1024);
            let largest_buffer = Arc::new(AtomicUsize::new(0));
            let io = Watched { io, largest_buffer: Arc::clone(&largest_buffer) };
            let served = tokio::spawn(async move { server.serve_connection(io).await.is_ok() });
            within("everything sent", client.write_all(&[hello, pieces.concat()].concat())).await.unwrap();
            within("the end sent", client.shutdown()).await.unwrap();
            let mut said = BytesMut::new();
            while within("the end of the stream", client.read_buf(&mut said)).await.unwrap() > 0 {}
            within("the end of the connection", served).await.expect("no panic");

            while LengthDelimitedCodec::new().decode(&mut said).unwrap().is_some() {}
            assert!(said.is_empty(), "not a whole frame: {said:?}");
            let largest = largest_buffer.load(SeqCst);
            assert!(largest <= MAX + 16 * 1024, "{largest} bytes were allocated");
        });
    });
}

// ---- the server ------------------------------------------------------------------------------------------
// Chapter: Files of today > src/server.rs; Limits > pause after a failed accept

/// A failing accept is not the end: the next connection is served.
///
/// A process that has run out of file descriptors fails to accept until one is closed. GeeRPC's server gives
/// up at the first such error, and never serves anybody again.
///
/// Hint: `accept` in a loop; an error is logged, and no reason to leave it.
#[test]
fn after_failing_accepts_a_good_one_is_served() {
    run_paused(async || {
        let (client, io) = duplex(4096);
        let error = || Err(std::io::Error::other("too many open files"));
        let script = Script(VecDeque::from([error(), error(), Ok(io), error()]));
        let _running = start_on(Server::new(arith()), script, ([127, 0, 0, 1], 0).into());
        let mut peer = Peer { io: client };
        peer.shake_hands_json().await;
        peer.expect_service().await;
    });
}

/// Accepting is tried again after a pause that grows from 5 ms and stops growing at one second.
///
/// Without a pause, a server that has run out of file descriptors uses up a core to find that out again and
/// again; with one that grows for ever it is gone for hours.
///
/// Hint: the clock of this test is paused, so the waits cost nothing.
#[test]
fn the_pause_between_failing_accepts_grows_and_is_capped() {
    run_paused(async || {
        const FAILURES: usize = 20;
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let failures = (0..FAILURES).map(|_| Err(std::io::Error::other("too many open files")));
        let listener: Script<DuplexStream> = Script(failures.collect());
        let listener = Timed { listener, asked: sender };
        let _running = start_on(Server::new(arith()), listener, ([127, 0, 0, 1], 0).into());
        let mut asked = Vec::new();
        for _ in 0..=FAILURES {
            asked.push(within("the server asks for the next connection", receiver.recv()).await.unwrap());
        }
        let again = timeout(STEP, receiver.recv()).await;
        assert!(again.is_err(), "it asked again, though the listener has not answered yet");

        let pauses: Vec<Duration> = asked.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert!(
            pauses[0] >= Duration::from_millis(1) && pauses[0] <= Duration::from_millis(50),
            "{pauses:?}"
        );
        let longest = pauses[FAILURES - 1];
        assert!(
            longest >= Duration::from_millis(500) && longest <= Duration::from_millis(1100),
            "{pauses:?}"
        );
        assert!(pauses[FAILURES - 3] * 2 > longest, "still growing: {pauses:?}");
    });
}

/// A handler that says that it has started, never ends, and says when it is dropped.
fn never_ends(started: mpsc::UnboundedSender<()>, dropped: mpsc::UnboundedSender<()>) -> impl Handler {
    move |_request: Request| {
        let (started, on_drop) = (started.clone(), OnDrop(dropped.clone()));
        async move {
            let _on_drop = on_drop;
            tokio::task::yield_now().await; // from here on in a task of its own
            started.send(()).ok();
            std::future::pending::<anyhow::Result<Reply>>().await
        }
    }
}

/// Dropping the future of `serve` ends everything it started: connections are closed, handlers aborted.
///
/// What is started has an owner. A task that nobody owns goes on after its server, and nothing stops it.
///
/// Hint: `JoinSet` aborts its tasks when it is dropped; a bare `tokio::spawn` does not.
#[test]
fn dropping_serve_closes_connections_and_aborts_handlers() {
    run_threads(async || {
        let (started, mut has_started) = mpsc::unbounded_channel();
        let (dropped, mut was_dropped) = mpsc::unbounded_channel();
        let server = start(Server::new(never_ends(started, dropped))).await;
        let mut peers = Vec::new();
        for _ in 0..2 {
            let mut peer = Peer::connect_json(server.addr).await;
            peer.send(&json_message("Never.ends", 1, json!(null))).await;
            within("a handler that starts", has_started.recv()).await.unwrap();
            peers.push(peer);
        }
        assert!(was_dropped.try_recv().is_err(), "a handler is gone before its time");

        let addr = server.addr;
        drop(server);
        for mut peer in peers {
            within("an aborted handler", was_dropped.recv()).await.unwrap();
            peer.expect_end().await;
        }
        let refused = within("an answer of the system", tokio::net::TcpStream::connect(addr)).await;
        assert!(refused.is_err(), "the listener is still open");
    });
}

/// When the client goes away, its handlers are aborted, and those of others are not.
///
/// Nobody is left to read their replies. GeeRPC's server waits for them, however long they take.
///
/// Hint: a `JoinSet` that the connection's task owns ends with it.
#[test]
fn when_the_client_goes_away_its_handlers_are_aborted() {
    run(async || {
        let (started, mut has_started) = mpsc::unbounded_channel();
        let (dropped, mut was_dropped) = mpsc::unbounded_channel();
        let server = start(Server::new(never_ends(started, dropped))).await;
        let mut leaves = Peer::connect_json(server.addr).await;
        let mut stays = Peer::connect_json(server.addr).await;
        for peer in [&mut leaves, &mut stays] {
            peer.send(&json_message("Never.ends", 1, json!(null))).await;
            peer.send(&json_message("Never.ends", 2, json!(null))).await;
        }
        for _ in 0..4 {
            within("a handler that starts", has_started.recv()).await.unwrap();
        }
        drop(leaves);
        for _ in 0..2 {
            within("an aborted handler", was_dropped.recv()).await.unwrap();
        }
        // One round trip on the other connection, and its handlers are still there.
        stays.send(&json_message("Never.ends", 3, json!(null))).await;
        within("a handler that starts", has_started.recv()).await.unwrap();
        assert!(was_dropped.try_recv().is_err(), "a handler of another client was aborted");
    });
}
