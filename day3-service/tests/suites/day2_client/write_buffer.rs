//! The write buffer: what waits to be written, and leaves in one write.
//!
//! In `src/wire/write_buf.rs`: first `put_frame`, `put`, `write_to` and `advance`; then `chunks_vectored`, for what is
//! not in one piece; then `encode_frame`, into which messages are encoded. `FrameWriter` of day 1 keeps what is queued
//! in it already.
//!
//! Works then: many small messages leave in one write, and a large one without a copy.
//!
//! Chapter: The wire

use super::*;

/// However many small frames are queued, they leave in one write, in their order.
///
/// A write is a system call, and with TCP often a packet. It costs more than all the rest of a small call.
///
/// Hint: append each frame to one `Vec`. `write_to` writes all of it, and `advance` notes how much has left.
#[test]
fn small_frames_leave_in_one_write() {
    run(async || {
        for is_vectored in [false, true] {
            let (sink, written) = Sink::new(is_vectored, usize::MAX);
            let mut writer = FrameWriter::new(sink);
            let mut wire = Vec::new();
            for round in 1..=3 {
                for number in 0..100 {
                    let payload = vec![number; usize::from(number)];
                    wire.extend(frame(&payload));
                    writer.queue(payload.into()).unwrap();
                }
                assert!(writer.needs_flush());
                within("the flush", writer.flush()).await.unwrap();
                assert_eq!((writer.queued(), writer.needs_flush()), (0, false), "everything is written");
                let written = written.lock().unwrap();
                assert!(written.bytes == wire, "other bytes were written than were queued");
                assert_eq!(written.writes.len(), round, "writes for {round} flushes");
            }
        }
    });
}

/// A large payload is written from where it is, in the same write as the small ones around it.
///
/// To copy a megabyte costs more than a write. A stream that takes several buffers at once, as a socket does,
/// needs neither the copy nor the second write.
///
/// Hint: `put` closes the `Vec` and keeps the large `Bytes` behind it. `io.write_buf` asks for `chunks_vectored`.
#[test]
fn a_large_payload_is_written_from_where_it_is() {
    run(async || {
        let (sink, written) = Sink::new(true, usize::MAX);
        let mut writer = FrameWriter::new(sink);
        let large = Bytes::from(vec![7; 1 << 20]);
        let payloads = ["small".into(), large.clone(), "after it".into(), large.clone()];
        for payload in &payloads {
            writer.queue(payload.clone()).unwrap();
        }
        let wire: Vec<u8> = payloads.iter().flat_map(frame).collect();
        assert_eq!(writer.queued(), wire.len());
        within("the flush", writer.flush()).await.unwrap();
        let written = written.lock().unwrap();
        assert!(written.bytes == wire, "other bytes were written than were queued");
        let [parts] = &written.writes[..] else { panic!("{} writes instead of one", written.writes.len()) };
        let in_place = parts.iter().filter(|part| **part == large.as_ptr() as usize).count();
        assert_eq!(in_place, 2, "a large payload was copied");
    });
}

/// A stream may take one buffer only, and of that a part. The bytes are the same.
///
/// Many streams have no vectored write (`AsyncWrite::is_write_vectored`), and any may take less than it is given.
/// Then the next write goes on in the middle of a frame, or of two.
///
/// Hint: `chunk` is the first part that is not empty. `advance` may end in any part, and at its border.
#[test]
fn a_stream_that_takes_a_part_gets_the_same_bytes() {
    run(async || {
        let sizes = [10, 4091, 4092, 0, 9000, 4096, 1, 4095, 20_000, 5];
        let payloads: Vec<Vec<u8>> = (1..).zip(sizes).map(|(number, size)| vec![number; size]).collect();
        let wire: Vec<u8> = payloads.iter().flat_map(frame).collect();
        for is_vectored in [false, true] {
            for max in [1, 3, 14, 4095, 4096, 5000, usize::MAX] {
                let (sink, written) = Sink::new(is_vectored, max);
                let mut writer = FrameWriter::new(sink);
                for (count, payload) in (1..).zip(&payloads) {
                    writer.queue(payload.clone().into()).unwrap();
                    if count % 4 == 0 {
                        within("a flush", writer.flush()).await.unwrap();
                    }
                }
                within("the last flush", writer.flush()).await.unwrap();
                let case = format!("vectored: {is_vectored}, {max} bytes a write");
                assert!(written.lock().unwrap().bytes == wire, "{case}: other bytes than were queued");
                assert_eq!(writer.queued(), 0, "{case}");
            }
        }
    });
}

/// A message that is too long, or cannot be encoded, takes back its own bytes and no others.
///
/// A header is encoded straight into the buffer, behind what other calls have queued. Half a header there would
/// be read as the beginning of the next message.
///
/// Hint: note the length before you encode, and truncate to it after an error.
#[test]
fn a_message_that_fails_takes_back_only_its_own_bytes() {
    run(async || {
        let (sink, written) = Sink::new(true, usize::MAX);
        let mut writer = FrameWriter::new(sink);
        let reply = |seq| Message::Reply { seq, result: Ok(vec![b' '; 10].into()) };
        let too_long = Message::Call {
            service_method: "x".repeat(MAX_HEADER_LEN),
            seq: 1,
            metadata: Metadata::new(),
            body: Bytes::new(),
        };
        let mut wire = Vec::new();
        for seq in 0..3 {
            reply(seq).queue(&mut writer, Codec::Bincode, 10).unwrap();
            wire.extend([frame([1, seq as u8, 0]), frame([b' '; 10])].concat());
            for failed in [
                too_long.queue(&mut writer, Codec::Bincode, 10),
                reply(seq).queue(&mut writer, Codec::Bincode, 9),
            ] {
                assert!(matches!(failed, Err(Error::FrameTooLarge { .. })), "{failed:?}");
                assert_eq!(writer.queued(), wire.len(), "a message that has failed left bytes behind");
            }
        }
        within("the flush", writer.flush()).await.unwrap();
        assert_eq!(written.lock().unwrap().bytes.escape_ascii().to_string(), wire.escape_ascii().to_string());
    });
}
