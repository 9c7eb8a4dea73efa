//! HTTP/2 by hand, frame by frame: for peers that do what no library does.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::gateway::Stream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113 section 6) and flags.
pub const HEADERS: u8 = 1;
/// SETTINGS.
pub const SETTINGS: u8 = 4;
/// PING.
pub const PING: u8 = 6;
/// GOAWAY.
pub const GOAWAY: u8 = 7;
/// Acknowledges SETTINGS or PING; ends a stream with HEADERS or DATA.
pub const ACK: u8 = 1;
const END: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// A server's side of a connection.
pub struct Peer {
    stream: Box<dyn Stream>,
}

impl Peer {
    /// Reads the preface and settles the settings' exchange.
    pub async fn accept(mut stream: Box<dyn Stream>) -> Option<Self> {
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).await.ok()?;
        assert_eq!(preface, PREFACE);
        let mut peer = Self { stream };
        peer.write(SETTINGS, 0, 0, &[]).await?;
        Some(peer)
    }

    /// Writes a frame.
    pub async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Option<()> {
        let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame).await.ok()?;
        self.stream.flush().await.ok()
    }

    /// Reads the next frame that is not about settings; those are acknowledged.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).await.ok()?;
            let frame = Frame {
                kind: head[3],
                flags: head[4],
                stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff,
                payload,
            };
            if frame.kind != SETTINGS {
                return Some(frame);
            }
            if frame.flags & ACK == 0 {
                self.write(SETTINGS, ACK, 0, &[]).await?;
            }
        }
    }

    /// Reads until a request's head; gives its stream.
    pub async fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.frame().await?;
            if frame.kind == HEADERS {
                return Some(frame.stream);
            }
        }
    }

    /// Answers 200 without a body.
    pub async fn answer(&mut self, stream: u32) -> Option<()> {
        // `:status 200` is entry 8 of HPACK's static table (RFC 7541 appendix A).
        self.write(HEADERS, END | END_HEADERS, stream, &[0x88]).await
    }

    /// Says that nothing after `last` was or will be looked at.
    pub async fn go_away(&mut self, last: u32) -> Option<()> {
        let mut payload = last.to_be_bytes().to_vec();
        payload.extend([0; 4]);
        self.write(GOAWAY, 0, 0, &payload).await
    }
}
