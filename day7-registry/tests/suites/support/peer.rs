//! A peer that speaks the wire by hand, so that a test does not check our encoder with our decoder.

use std::panic::Location;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Caller, within, within_at};

/// One frame: the length as four bytes, the highest first, then the payload.
pub fn frame(payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let len = u32::try_from(payload.len()).unwrap();
    [&len.to_be_bytes()[..], payload].concat()
}

/// The client's first frame, with the given codecs.
pub fn options(codecs: &[&str]) -> Vec<u8> {
    frame(json!({"magic_number": 0x3bef5c, "codecs": codecs}).to_string())
}

/// A message in JSON: a header frame and a body frame.
pub fn json_message(service_method: &str, seq: u64, body: Value) -> Vec<u8> {
    let header = json!({"service_method": service_method, "seq": seq, "error": null}).to_string();
    [frame(header), frame(body.to_string())].concat()
}

/// A message in JSON that carries an error: its body is an empty frame.
pub fn json_error(service_method: &str, seq: u64, error: &str) -> Vec<u8> {
    let header = json!({"service_method": service_method, "seq": seq, "error": error}).to_string();
    [frame(header), frame("")].concat()
}

/// One message as it was read: the header, and the body's bytes.
#[derive(Debug, PartialEq)]
pub struct RawMessage {
    pub header: Value,
    pub body: Vec<u8>,
}

impl RawMessage {
    pub fn seq(&self) -> u64 {
        self.header["seq"].as_u64().expect("a header has a seq")
    }

    /// The text of the error, or "" if there is none.
    pub fn error(&self) -> &str {
        self.header["error"].as_str().unwrap_or("")
    }

    /// The body as JSON.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in the body of {self:?}"))
    }
}

/// A raw connection, over any stream.
pub struct Peer<Io> {
    pub io: Io,
}

impl Peer<TcpStream> {
    /// Connects, and says nothing yet.
    pub async fn connect(addr: std::net::SocketAddr) -> Self {
        Peer { io: within("connecting to the server", TcpStream::connect(addr)).await.unwrap() }
    }

    /// Connects, and shakes hands for JSON.
    pub async fn connect_json(addr: std::net::SocketAddr) -> Self {
        let mut peer = Peer::connect(addr).await;
        peer.shake_hands_json().await;
        peer
    }
}

// The functions that tests call note their caller, and those that end in `_at` are told.
impl<Io: AsyncRead + AsyncWrite + Unpin> Peer<Io> {
    /// Offers JSON and checks that the server takes it.
    #[track_caller]
    pub fn shake_hands_json(&mut self) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            self.send_at(caller, &options(&["application/json"])).await;
            assert_eq!(self.read_json_at(caller).await, json!({"codec": "application/json"}));
        }
    }

    /// Plays a server's part: reads the client's options, and chooses the codec.
    #[track_caller]
    pub fn accept_handshake(&mut self, codec: &str) -> impl Future<Output = Value> {
        let caller = Location::caller();
        async move {
            let options = self.read_json_at(caller).await;
            self.send_at(caller, &frame(json!({"codec": codec}).to_string())).await;
            options
        }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) -> impl Future<Output = ()> {
        self.send_at(Location::caller(), bytes)
    }

    pub async fn send_at(&mut self, caller: Caller, bytes: &[u8]) {
        let written = async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        };
        if let Err(error) = within_at(caller, "writing to the other side", written).await {
            panic!("writing to the other side, which has closed: {error} (awaited at {caller})");
        }
    }

    /// Checks that the other side serves: it answers a call of `Arith.sum`.
    #[track_caller]
    pub fn expect_service(&mut self) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            self.send_at(caller, &json_message("Arith.sum", 1, json!({"num1": 2, "num2": 3}))).await;
            assert_eq!(self.read_message_at(caller).await.value(), 5);
        }
    }

    /// Reads one frame; `None` at the end of the stream.
    #[track_caller]
    pub fn try_read_frame(&mut self) -> impl Future<Output = Option<Vec<u8>>> {
        self.try_read_frame_at(Location::caller())
    }

    pub async fn try_read_frame_at(&mut self, caller: Caller) -> Option<Vec<u8>> {
        let mut len = [0; 4];
        match within_at(caller, "a frame, or the end of the stream", self.io.read_exact(&mut len)).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("reading a frame: {error} (awaited at {caller})"),
        }
        let len = u32::from_be_bytes(len) as usize;
        assert!(len <= 64 << 20, "a frame of {len} bytes: is its length big-endian? (awaited at {caller})");
        let mut payload = vec![0; len];
        match within_at(caller, "the rest of a frame", self.io.read_exact(&mut payload)).await {
            Ok(_) => Some(payload),
            Err(error) => panic!("reading a frame of {len} bytes: {error} (awaited at {caller})"),
        }
    }

    #[track_caller]
    pub fn read_frame(&mut self) -> impl Future<Output = Vec<u8>> {
        self.read_frame_at(Location::caller())
    }

    async fn read_frame_at(&mut self, caller: Caller) -> Vec<u8> {
        let frame = self.try_read_frame_at(caller).await;
        frame.unwrap_or_else(|| panic!("expected a frame, but the stream ended (awaited at {caller})"))
    }

    #[track_caller]
    pub fn read_json(&mut self) -> impl Future<Output = Value> {
        self.read_json_at(Location::caller())
    }

    async fn read_json_at(&mut self, caller: Caller) -> Value {
        let frame = self.read_frame_at(caller).await;
        serde_json::from_slice(&frame).unwrap_or_else(|error| {
            panic!("{error} in {:?} (awaited at {caller})", String::from_utf8_lossy(&frame))
        })
    }

    /// Reads one message with a JSON header.
    #[track_caller]
    pub fn read_message(&mut self) -> impl Future<Output = RawMessage> {
        self.read_message_at(Location::caller())
    }

    pub async fn read_message_at(&mut self, caller: Caller) -> RawMessage {
        let header = self.read_json_at(caller).await;
        RawMessage { header, body: self.read_frame_at(caller).await }
    }

    /// Checks that the other side ends the stream, with nothing more to say.
    #[track_caller]
    pub fn expect_end(&mut self) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            if let Some(frame) = self.try_read_frame_at(caller).await {
                let frame = String::from_utf8_lossy(&frame);
                panic!("the stream should have ended, but then came {frame:?} (awaited at {caller})");
            }
        }
    }
}
