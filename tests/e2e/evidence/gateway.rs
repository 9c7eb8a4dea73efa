//! A gateway that fails at a given byte, and knows what it really received.
//!
//! Blocking, raw, and on a thread of its own: it reads one byte at a time from a real TLS session, over HTTP/1.1 or
//! HTTP/2 by hand, and then closes, half-closes, resets or falls silent. What it received is judged from the bytes alone,
//! including those that its TLS session had decrypted when it failed.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The protocol of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Http {
    H1,
    H2,
}

/// What happens to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// It says goodbye in its direction, and goes on reading.
    HalfClose,
    /// The process dies: the socket is closed, whatever lies unread in it.
    Close,
    /// Reset.
    Reset,
    /// It goes on reading, and never says a word again.
    Stall,
}

/// Where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// When it has read so many bytes of the request. None: when the first ones lie in its socket.
    Request(usize),
    /// When it has written so many bytes of the answer to the whole request.
    Answer(usize),
    /// So many microseconds after the answer to the request before.
    Idle(u64),
}

/// One case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub http: Http,
    pub reused: bool,
    pub place: Place,
    pub fault: Fault,
    /// How long the gate takes: a ledger's commit, or nothing.
    pub gate: Duration,
}

/// What really happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Requests received whole, on all connections, without the one that prepares a used connection.
    pub whole: usize,
    /// Answers written whole, of these.
    pub answered: usize,
    /// Whether the fault happened.
    pub failed: bool,
}

/// The body of every answer.
pub const BODY: &str = r#"{"id":"ch_1","status":"succeeded"}"#;

/// A complete answer.
pub fn answer(http: Http, stream: u32) -> Vec<u8> {
    match http {
        Http::H1 => format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
            BODY.len()
        )
        .into_bytes(),
        Http::H2 => {
            let length = BODY.len().to_string();
            // HPACK (RFC 7541): 0x88 is `:status: 200`; 0x0f 0x0d a literal `content-length` without indexing.
            let mut block = vec![0x88, 0x0f, 0x0d, length.len() as u8];
            block.extend_from_slice(length.as_bytes());
            let mut all = frame(1, 0x4, stream, &block);
            all.extend(frame(0, 0x1, stream, BODY.as_bytes()));
            all
        }
    }
}

/// An HTTP/2 frame (RFC 9113 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Runs one case's gateway; its truth comes when the listener's work is over.
pub fn run(case: Case, tls: Arc<ServerConfig>) -> (SocketAddr, mpsc::Receiver<Truth>, Stop) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (done, truth) = mpsc::channel();
    std::thread::spawn(move || {
        let mut truth = Truth::default();
        // A connection of no bytes ends the gateway; every other one is served, one after the other.
        while let Ok((socket, _)) = listener.accept() {
            match Session::accept(socket, &tls, case.http) {
                Some(session) => serve(session, case, &mut truth),
                None => break,
            }
        }
        let _ = done.send(truth);
    });
    (address, truth, Stop(address))
}

/// Ends a gateway that waits for a connection.
pub struct Stop(SocketAddr);

impl Drop for Stop {
    fn drop(&mut self) {
        drop(TcpStream::connect(self.0));
    }
}

fn serve(mut session: Session, case: Case, truth: &mut Truth) {
    if case.reused && !truth.failed {
        let Some(request) = session.whole() else { return };
        if session.write(&answer(case.http, request)).is_none() {
            return;
        }
        if let Place::Idle(micros) = case.place {
            std::thread::sleep(Duration::from_micros(micros));
            truth.failed = true;
            truth.whole += session.fail(case.fault);
            return;
        }
    }
    if truth.failed {
        // The client came back on a new connection: it is served well.
        // (One that Sentinel then does not complete counts as what it is: nothing.)
        if let Some(request) = session.whole() {
            truth.whole += 1;
            truth.answered += usize::from(session.write(&answer(case.http, request)).is_some());
        }
        return;
    }
    match case.place {
        Place::Request(count) => {
            // A position behind the request's end is never reached: then it ends with the client's patience.
            let reached = session.until(count).is_some();
            truth.failed |= reached;
            truth.whole += if reached {
                session.fail(case.fault)
            } else {
                session.received()
            };
        }
        Place::Answer(count) => {
            let Some(request) = session.whole() else { return };
            truth.whole += 1;
            truth.failed = true;
            let answer = answer(case.http, request);
            let count = count.min(answer.len());
            if session.write(&answer[..count]).is_some() {
                truth.answered += usize::from(count == answer.len());
            }
            session.fail(case.fault);
        }
        Place::Idle(_) => {}
    }
}

/// One connection.
struct Session {
    tls: StreamOwned<ServerConnection, TcpStream>,
    reader: Reader,
}

/// What the bytes mean so far.
enum Reader {
    H1 { bytes: Vec<u8> },
    H2(Frames),
}

#[derive(Default)]
struct Frames {
    preface: usize,
    bytes: Vec<u8>,
    /// Bytes of the frames of requests.
    request: usize,
    /// Streams whose request is complete and not yet answered.
    complete: Vec<u32>,
    /// Frames that want an answer of the connection itself.
    replies: Vec<u8>,
}

impl Session {
    fn accept(socket: TcpStream, tls: &Arc<ServerConfig>, http: Http) -> Option<Self> {
        socket.set_nodelay(true).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let connection = ServerConnection::new(Arc::clone(tls)).ok()?;
        let mut tls = StreamOwned::new(connection, socket);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).ok()?;
        }
        let reader = match http {
            Http::H1 => Reader::H1 { bytes: Vec::new() },
            Http::H2 => {
                tls.write_all(&frame(4, 0, 0, &[])).ok()?;
                tls.flush().ok()?;
                Reader::H2(Frames::default())
            }
        };
        Some(Self { tls, reader })
    }

    fn write(&mut self, bytes: &[u8]) -> Option<()> {
        self.tls.write_all(bytes).ok()?;
        self.tls.flush().ok()
    }

    /// One byte more.
    fn step(&mut self) -> Option<()> {
        let mut byte = [0];
        match self.tls.read(&mut byte) {
            Ok(1) => {}
            _ => return None,
        }
        self.take(byte[0]);
        if let Reader::H2(frames) = &mut self.reader
            && !frames.replies.is_empty()
        {
            let replies = std::mem::take(&mut frames.replies);
            self.write(&replies)?;
        }
        Some(())
    }

    fn take(&mut self, byte: u8) {
        match &mut self.reader {
            Reader::H1 { bytes } => bytes.push(byte),
            Reader::H2(frames) => frames.take(byte),
        }
    }

    /// Reads a whole request; over HTTP/2 gives its stream.
    fn whole(&mut self) -> Option<u32> {
        loop {
            if let Some(request) = self.next_whole() {
                return Some(request);
            }
            self.step()?;
        }
    }

    fn next_whole(&mut self) -> Option<u32> {
        match &mut self.reader {
            Reader::H1 { bytes } => {
                let length = whole(bytes)?;
                bytes.drain(..length);
                Some(0)
            }
            Reader::H2(frames) => {
                let stream = frames.complete.pop()?;
                frames.request = 0;
                Some(stream)
            }
        }
    }

    /// Reads until it has so many bytes of the next request.
    fn until(&mut self, count: usize) -> Option<()> {
        if count == 0 {
            return match self.tls.sock.peek(&mut [0]) {
                Ok(1) => Some(()),
                _ => None,
            };
        }
        loop {
            let have = match &self.reader {
                Reader::H1 { bytes } => bytes.len(),
                Reader::H2(frames) => frames.request,
            };
            if have >= count {
                return Some(());
            }
            self.step()?;
        }
    }

    /// Fails, and says how many requests it has received whole by then (or, where it goes on reading, at the end).
    fn fail(mut self, fault: Fault) -> usize {
        match fault {
            Fault::HalfClose => {
                self.tls.conn.send_close_notify();
                let _ = self.tls.conn.complete_io(&mut self.tls.sock);
                let _ = self.tls.sock.shutdown(Shutdown::Write);
                while self.step().is_some() {}
            }
            Fault::Stall => while self.step().is_some() {},
            Fault::Close | Fault::Reset => {
                // What the session had decrypted, the application could have read.
                let mut byte = [0];
                while matches!(self.tls.conn.reader().read(&mut byte), Ok(1)) {
                    self.take(byte[0]);
                }
                if fault == Fault::Reset {
                    let _ = socket2::SockRef::from(&self.tls.sock).set_linger(Some(Duration::ZERO));
                }
            }
        }
        self.received()
    }

    /// How many requests it has read whole and not yet looked at.
    fn received(&mut self) -> usize {
        let mut received = 0;
        while self.next_whole().is_some() {
            received += 1;
        }
        received
    }
}

/// The length of the whole HTTP/1.1 request that these bytes begin with.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |length| length.trim().parse().unwrap_or(usize::MAX));
    (bytes.len() >= head.checked_add(length)?).then_some(head + length)
}

impl Frames {
    fn take(&mut self, byte: u8) {
        if self.preface < 24 {
            self.preface += 1;
            return;
        }
        self.bytes.push(byte);
        // The stream stands in the last four bytes of a frame's head: before it is known, its bytes are not counted.
        if self.bytes.len() >= 9 {
            let stream = u32::from_be_bytes([self.bytes[5], self.bytes[6], self.bytes[7], self.bytes[8]]);
            if stream > 0 {
                self.request += if self.bytes.len() == 9 { 9 } else { 1 };
            }
            let length = u32::from_be_bytes([0, self.bytes[0], self.bytes[1], self.bytes[2]]) as usize;
            if self.bytes.len() == 9 + length {
                let (kind, flags) = (self.bytes[3], self.bytes[4]);
                match kind {
                    // DATA or HEADERS with END_STREAM.
                    0 | 1 if flags & 1 == 1 => self.complete.insert(0, stream),
                    4 if flags & 1 == 0 => self.replies.extend(frame(4, 1, 0, &[])),
                    6 if flags & 1 == 0 => self.replies.extend(frame(6, 1, 0, &self.bytes[9..])),
                    _ => {}
                }
                self.bytes.clear();
            }
        }
    }
}
