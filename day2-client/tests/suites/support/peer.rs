//! A peer that speaks the wire by hand, so that a test does not check our encoder with our decoder.

use std::net::SocketAddr;
use std::panic::Location;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Caller, within, within_at};

/// The number in every client's hello.
pub const MAGIC: u32 = 3_927_900;

/// One frame: the length as four bytes, the highest first, then the payload.
pub fn frame(payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let len = u32::try_from(payload.len()).unwrap();
    [&len.to_be_bytes()[..], payload].concat()
}

/// The client's hello with these codecs, and defaults for everything else.
pub fn client_hello(codecs: &[&str]) -> Vec<u8> {
    client_hello_with(codecs, json!({}))
}

/// The same with more fields, such as `{"max_body_len": 1000}`.
pub fn client_hello_with(codecs: &[&str], fields: Value) -> Vec<u8> {
    frame(merged(json!({"magic_number": MAGIC, "codecs": codecs}), fields).to_string())
}

/// The server's hello with this codec, and defaults for everything else.
pub fn server_hello(codec: &str) -> Vec<u8> {
    server_hello_with(codec, json!({}))
}

/// The same with more fields, such as `{"max_body_len": 1000, "max_in_flight": 2}`.
pub fn server_hello_with(codec: &str, fields: Value) -> Vec<u8> {
    frame(merged(json!({"codec": codec}), fields).to_string())
}

/// The server's hello that refuses.
pub fn server_refusal(error: &str) -> Vec<u8> {
    frame(json!({"error": error}).to_string())
}

fn merged(mut object: Value, fields: Value) -> Value {
    let Value::Object(fields) = fields else { panic!("not an object: {fields}") };
    object.as_object_mut().unwrap().extend(fields);
    object
}

/// A call in JSON: a header frame and a body frame.
pub fn call(service_method: &str, seq: u64, body: Value) -> Vec<u8> {
    call_with(service_method, seq, json!({}), body)
}

/// The same with metadata.
pub fn call_with(service_method: &str, seq: u64, metadata: Value, body: Value) -> Vec<u8> {
    let header = json!({"call": {"service_method": service_method, "seq": seq, "metadata": metadata}});
    [frame(header.to_string()), frame(body.to_string())].concat()
}

/// A good reply in JSON: a header frame and a body frame.
pub fn reply(seq: u64, body: Value) -> Vec<u8> {
    let header = json!({"reply": {"seq": seq, "error": null}});
    [frame(header.to_string()), frame(body.to_string())].concat()
}

/// A reply in JSON that carries an error: a header frame alone.
pub fn reply_error(seq: u64, code: &str, message: &str) -> Vec<u8> {
    error(seq, code, message, false)
}

/// A reply in JSON that says that the call was not started and never will be.
pub fn reply_refused(seq: u64, code: &str, message: &str) -> Vec<u8> {
    error(seq, code, message, true)
}

fn error(seq: u64, code: &str, message: &str, refused: bool) -> Vec<u8> {
    let error = json!({"code": code, "message": message, "refused": refused});
    frame(json!({"reply": {"seq": seq, "error": error}}).to_string())
}

/// The message in JSON that says that its sender takes no new calls.
pub fn goaway(reason: &str) -> Vec<u8> {
    frame(json!({"goaway": {"reason": reason}}).to_string())
}

/// One message as it was read: the header in JSON, and the body's bytes if there is one.
#[derive(Debug, PartialEq)]
pub struct RawMessage {
    pub header: Value,
    pub body: Option<Vec<u8>>,
}

impl RawMessage {
    /// `"call"`, `"reply"`, `"goaway"` and so on: the one key of the header.
    pub fn kind(&self) -> &str {
        let keys = self.header.as_object().map(|header| header.keys().collect::<Vec<_>>());
        match keys.as_deref() {
            Some([kind]) => kind,
            _ => panic!("a header is an object with one key: {}", self.header),
        }
    }

    /// What stands in the header of this kind of message.
    #[track_caller]
    pub fn fields(&self, kind: &str) -> &Value {
        assert_eq!(self.kind(), kind, "another kind of message: {}", self.header);
        &self.header[kind]
    }

    /// The number of the call or reply.
    #[track_caller]
    pub fn seq(&self) -> u64 {
        self.header[self.kind()]["seq"].as_u64().unwrap_or_else(|| panic!("no seq in {}", self.header))
    }

    /// The error of a reply, which must have one.
    #[track_caller]
    pub fn error(&self) -> &Value {
        let error = &self.fields("reply")["error"];
        assert!(error.is_object() && self.body.is_none(), "a reply with an error was expected: {self:?}");
        error
    }

    /// The code of the reply's error.
    #[track_caller]
    pub fn code(&self) -> &str {
        self.error()["code"].as_str().unwrap_or_else(|| panic!("no code in {}", self.header))
    }

    /// The message of the reply's error.
    #[track_caller]
    pub fn message(&self) -> &str {
        self.error()["message"].as_str().unwrap_or_else(|| panic!("no message in {}", self.header))
    }

    /// Whether the reply's error says that the call was not started.
    #[track_caller]
    pub fn is_refused(&self) -> bool {
        self.error()["refused"].as_bool().unwrap_or_else(|| panic!("no mark in {}", self.header))
    }

    /// The body as JSON, of a call or of a good reply.
    #[track_caller]
    pub fn value(&self) -> Value {
        let Some(body) = &self.body else { panic!("no body behind {}", self.header) };
        serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error} in the body of {self:?}"))
    }

    /// The reason of a goaway, which must have one.
    #[track_caller]
    pub fn reason(&self) -> &str {
        let reason = self.fields("goaway")["reason"].as_str();
        reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| panic!("no reason in {}", self.header))
    }
}

/// A raw connection, over any stream.
pub struct Peer<Io> {
    pub io: Io,
}

impl Peer<TcpStream> {
    /// Connects, and says nothing yet.
    pub async fn connect(addr: SocketAddr) -> Self {
        Peer { io: within("connecting to the server", TcpStream::connect(addr)).await.unwrap() }
    }

    /// Connects, and agrees on JSON.
    pub async fn connect_json(addr: SocketAddr) -> Self {
        let mut peer = Peer::connect(addr).await;
        peer.handshake_json().await;
        peer
    }
}

// The functions that tests call note their caller, and those that end in `_at` are told.
impl<Io: AsyncRead + AsyncWrite + Unpin> Peer<Io> {
    /// Plays a client's part: offers JSON, and checks that the server takes it. Returns the server's hello.
    #[track_caller]
    pub fn handshake_json(&mut self) -> impl Future<Output = Value> {
        self.handshake_at(Location::caller(), client_hello(&["application/json"]))
    }

    /// The same with more fields, such as `{"max_body_len": 1000}`.
    #[track_caller]
    pub fn handshake_json_with(&mut self, fields: Value) -> impl Future<Output = Value> {
        self.handshake_at(Location::caller(), client_hello_with(&["application/json"], fields))
    }

    async fn handshake_at(&mut self, caller: Caller, hello: Vec<u8>) -> Value {
        self.send_at(caller, &hello).await;
        let answer = self.read_json_at(caller).await;
        assert_eq!(answer["codec"], "application/json", "the answer is {answer} (awaited at {caller})");
        answer
    }

    /// Plays a server's part: reads the client's hello, which it returns, and chooses the codec.
    #[track_caller]
    pub fn accept_handshake(&mut self, codec: &str) -> impl Future<Output = Value> {
        self.accept_at(Location::caller(), server_hello(codec))
    }

    /// The same with more fields, such as `{"max_body_len": 1000, "max_in_flight": 2}`.
    #[track_caller]
    pub fn accept_handshake_with(&mut self, codec: &str, fields: Value) -> impl Future<Output = Value> {
        self.accept_at(Location::caller(), server_hello_with(codec, fields))
    }

    async fn accept_at(&mut self, caller: Caller, hello: Vec<u8>) -> Value {
        let client = self.read_json_at(caller).await;
        self.send_at(caller, &hello).await;
        client
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

    /// Ends our direction of the stream. The other one stays open.
    #[track_caller]
    pub fn end(&mut self) -> impl Future<Output = ()> {
        let ended = within_at(Location::caller(), "ending our direction of the stream", self.io.shutdown());
        async move { ended.await.unwrap() }
    }

    /// Checks that the other side serves: it answers a call of `Arith.sum`.
    #[track_caller]
    pub fn expect_service(&mut self) -> impl Future<Output = ()> {
        let caller = Location::caller();
        async move {
            self.send_at(caller, &call("Arith.sum", 1, json!({"num1": 2, "num2": 3}))).await;
            assert_eq!(self.read_message_at(caller).await.value(), 5, "(awaited at {caller})");
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

    /// Reads one message with a JSON header. A body follows a call, and a reply without an error.
    #[track_caller]
    pub fn read_message(&mut self) -> impl Future<Output = RawMessage> {
        self.read_message_at(Location::caller())
    }

    pub async fn read_message_at(&mut self, caller: Caller) -> RawMessage {
        let header = self.read_json_at(caller).await;
        let mut message = RawMessage { header, body: None };
        let has_body = match message.kind() {
            "call" => true,
            "reply" => message.header["reply"]["error"].is_null(),
            _ => false,
        };
        if has_body {
            message.body = Some(self.read_frame_at(caller).await);
        }
        message
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

    /// Checks that the other side says that it goes, and why, and then ends the stream. Returns the reason.
    #[track_caller]
    pub fn expect_goaway(&mut self) -> impl Future<Output = String> {
        let caller = Location::caller();
        async move {
            let reason = self.read_message_at(caller).await.reason().to_owned();
            if let Some(frame) = self.try_read_frame_at(caller).await {
                let frame = String::from_utf8_lossy(&frame);
                panic!("a goaway is the last message, but then came {frame:?} (awaited at {caller})");
            }
            reason
        }
    }
}
