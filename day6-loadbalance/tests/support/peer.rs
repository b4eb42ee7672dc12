//! A peer that speaks the wire by hand, so that a test does not check our encoder with our decoder.

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

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

impl<Io: AsyncRead + AsyncWrite + Unpin> Peer<Io> {
    /// Offers JSON and checks that the server takes it.
    pub async fn shake_hands_json(&mut self) {
        self.send(&options(&["application/json"])).await;
        assert_eq!(self.read_json().await, json!({"codec": "application/json"}));
    }

    /// Plays a server's part: reads the client's options, and chooses the codec.
    pub async fn accept_handshake(&mut self, codec: &str) -> Value {
        let options = self.read_json().await;
        self.send(&frame(json!({"codec": codec}).to_string())).await;
        options
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        within("writing to the other side", self.io.write_all(bytes)).await.unwrap();
        within("flushing to the other side", self.io.flush()).await.unwrap();
    }

    /// Checks that the other side serves: it answers a call of `Arith.sum`.
    pub async fn expect_service(&mut self) {
        self.send(&json_message("Arith.sum", 1, json!({"num1": 2, "num2": 3}))).await;
        assert_eq!(self.read_message().await.value(), 5);
    }

    /// Reads one frame; `None` at the end of the stream.
    pub async fn try_read_frame(&mut self) -> Option<Vec<u8>> {
        let mut len = [0; 4];
        match within("a frame, or the end of the stream", self.io.read_exact(&mut len)).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("reading a frame: {error}"),
        }
        let len = u32::from_be_bytes(len) as usize;
        assert!(len <= 64 << 20, "a frame of {len} bytes: is its length big-endian?");
        let mut payload = vec![0; len];
        within("the rest of a frame", self.io.read_exact(&mut payload)).await.unwrap();
        Some(payload)
    }

    pub async fn read_frame(&mut self) -> Vec<u8> {
        self.try_read_frame().await.expect("a frame, but the stream ended")
    }

    pub async fn read_json(&mut self) -> Value {
        let frame = self.read_frame().await;
        serde_json::from_slice(&frame)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&frame)))
    }

    /// Reads one message with a JSON header.
    pub async fn read_message(&mut self) -> RawMessage {
        let header = self.read_json().await;
        RawMessage { header, body: self.read_frame().await }
    }

    /// Checks that the other side ends the stream, with nothing more to say.
    pub async fn expect_end(&mut self) {
        if let Some(frame) = self.try_read_frame().await {
            panic!("the stream should have ended, but then came {:?}", String::from_utf8_lossy(&frame));
        }
    }
}
