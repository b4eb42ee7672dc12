//! Day 1's story: one call, byte by byte.
//!
//! There is a server, but no client yet, so this program plays the client by hand: it writes frames to a
//! socket, reads the frames that come back, and shows both as hex dumps.

use anyhow::{Context, Result};
use bytes::Bytes;
use day1_codec::{
    Code, Codec, Handler, MAGIC_NUMBER, Message, Metadata, RemoteError, Reply, Request, Server,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Serialize, Deserialize)]
struct Sum {
    num1: i32,
    num2: i32,
}

/// What the server can do. On day 3 a table of services takes the place of this `match`.
fn arith() -> impl Handler {
    async |request: Request| -> Result<Reply> {
        match request.service_method() {
            "Arith.sum" => {
                let Sum { num1, num2 } = request.decode()?;
                Ok(request.reply(&(num1 + num2))?)
            }
            other => {
                let text = format!("there is no method {other:?}");
                Err(RemoteError::new(Code::UNIMPLEMENTED, text).into())
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let server = tokio::spawn(async move { Server::new(arith()).serve(listener).await });
    println!("A server listens on {addr}. We have no client yet, so we speak to it by hand.");

    let stream = TcpStream::connect(addr).await?;
    let (json, stream) = in_json(stream).await?;
    errors_in_json(stream).await?;
    let bincode = in_bincode(TcpStream::connect(addr).await?).await?;
    another_protocol(TcpStream::connect(addr).await?).await?;

    title("What you saw");
    println!("The same call and reply took {json} bytes in JSON and {bincode} bytes in bincode.");
    println!("Framing and handshake work the same way in both, and the handler never knew the difference.");

    // The server is this future, and nothing else: aborting it closes every connection.
    server.abort();
    Ok(())
}

/// The whole exchange in JSON, written out by hand. Returns the bytes of the call and its reply.
async fn in_json(stream: TcpStream) -> Result<(usize, Wire)> {
    let mut wire = Wire { stream };

    title("1. The handshake");
    let hello = format!(r#"{{"magic_number":{MAGIC_NUMBER},"codecs":["application/json"]}}"#);
    wire.send("client hello: who we are, and the codecs that we speak", hello.as_bytes()).await?;
    println!("   The first four bytes are the length of what follows: {} bytes.", hello.len());
    wire.receive("server hello: the codec from here on, and how much the server takes").await?;

    title("2. One call in JSON");
    let header = br#"{"call":{"service_method":"Arith.sum","seq":1}}"#;
    let body = br#"{"num1":1,"num2":2}"#;
    let mut bytes = wire.send("call, header: which method, and call number 1", header).await?;
    bytes += wire.send("call, body: the argument", body).await?;
    let header = wire.receive("reply, header: the same number, and no error").await?;
    let body = wire.receive("reply, body: the value").await?;
    bytes += FRAME_PREFIX + header.len() + FRAME_PREFIX + body.len();

    let sum: i32 = Codec::Json.decode(&body)?;
    println!("   1 + 2 = {sum}, and it took {bytes} bytes.");
    Ok((bytes, wire))
}

/// A call that fails costs an error reply. The connection goes on.
async fn errors_in_json(mut wire: Wire) -> Result<()> {
    title("3. A call that fails");
    let header = br#"{"call":{"service_method":"Arith.divide","seq":2}}"#;
    wire.send("call, header: a method that does not exist", header).await?;
    wire.send("call, body", br#"{"num1":1,"num2":0}"#).await?;
    let header = wire.receive("reply, header: the error is in it, and no body follows").await?;
    let Message::Reply { seq, result: Err(error) } = Codec::Json.decode(&header)? else {
        anyhow::bail!("an error was expected")
    };
    println!("   Call {seq} failed. The code is for programs, the text for people:");
    println!("   {}: {}", error.code().as_str(), error.message());

    println!();
    println!("   The connection is as good as before. A third call on it, and this time it adds up:");
    let header = br#"{"call":{"service_method":"Arith.sum","seq":3}}"#;
    wire.send_quietly(header).await?;
    wire.send_quietly(br#"{"num1":20,"num2":22}"#).await?;
    wire.receive_quietly().await?;
    let body = wire.receive_quietly().await?;
    println!("   20 + 22 = {}", String::from_utf8_lossy(&body));
    Ok(())
}

/// The first call again, in bincode. Returns the bytes of the call and its reply.
async fn in_bincode(stream: TcpStream) -> Result<usize> {
    title("4. The same call in bincode");
    let mut wire = Wire { stream };
    let hello =
        format!(r#"{{"magic_number":{MAGIC_NUMBER},"codecs":["application/bincode","application/json"]}}"#);
    wire.send_quietly(hello.as_bytes()).await?;
    let answer = wire.receive_quietly().await?;
    println!("   We offered bincode first and JSON second. The server answers:");
    println!("   {}", String::from_utf8_lossy(&answer));

    let call = Message::Call {
        service_method: "Arith.sum".to_owned(),
        seq: 1,
        metadata: Metadata::new(),
        body: Bytes::new(), // not in the header: it follows in a frame of its own
    };
    let header = Codec::Bincode.encode(&call)?;
    let body = Codec::Bincode.encode(&Sum { num1: 1, num2: 2 })?;
    let mut bytes = wire.send("call, header: no names, just the values in order", &header).await?;
    bytes += wire.send("call, body: two numbers, one byte each", &body).await?;
    let header = wire.receive("reply, header").await?;
    let body = wire.receive("reply, body").await?;
    bytes += FRAME_PREFIX + header.len() + FRAME_PREFIX + body.len();

    let sum: i32 = Codec::Bincode.decode(&body)?;
    println!("   1 + 2 = {sum} again. bincode doubles a number that may be negative: it wrote {body:02x?}.");
    Ok(bytes)
}

/// A browser, or curl, at the wrong port.
async fn another_protocol(mut stream: TcpStream) -> Result<()> {
    title("5. A client that speaks another protocol");
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";
    show("→", "an HTTP request, as it is, with no frame around it", http);
    stream.write_all(http).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    show("←", "the answer, before the server closes", &answer);
    let claimed = u32::from_be_bytes([b'G', b'E', b'T', b' ']);
    println!("   \"GET \" read as a length is {claimed}. Nothing was allocated for it.");
    Ok(())
}

const FRAME_PREFIX: usize = 4;

/// A socket on which we write and read frames by hand.
struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Sends one frame and shows it. Returns its bytes.
    async fn send(&mut self, what: &str, payload: &[u8]) -> Result<usize> {
        let frame = self.send_quietly(payload).await?;
        show("→", what, &frame);
        Ok(frame.len())
    }

    async fn send_quietly(&mut self, payload: &[u8]) -> Result<Vec<u8>> {
        let len = u32::try_from(payload.len())?;
        let frame = [&len.to_be_bytes()[..], payload].concat();
        self.stream.write_all(&frame).await?;
        Ok(frame)
    }

    /// Receives one frame and shows it. Returns what is in it.
    async fn receive(&mut self, what: &str) -> Result<Vec<u8>> {
        let payload = self.receive_quietly().await?;
        let len = u32::try_from(payload.len())?;
        show("←", what, &[&len.to_be_bytes()[..], &payload].concat());
        Ok(payload)
    }

    async fn receive_quietly(&mut self) -> Result<Vec<u8>> {
        let len = self.stream.read_u32().await.context("the server closed the connection")?;
        let mut payload = vec![0; usize::try_from(len)?];
        self.stream.read_exact(&mut payload).await?;
        Ok(payload)
    }
}

fn title(text: &str) {
    println!("\n{text}\n{}", "=".repeat(text.chars().count()));
}

/// Prints bytes as a hex dump, with the text that they are beside them.
fn show(direction: &str, what: &str, bytes: &[u8]) {
    println!("\n {direction} {what}");
    for (line, row) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = row
            .iter()
            .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' })
            .collect();
        println!("   {:04x}  {:<47}  {text}", line * 16, hex.join(" "));
    }
}
