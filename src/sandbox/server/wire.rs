//! Bytes between a socket and hyper, and the places where they are cut.
//!
//! hyper serves one end of a pipe; [`pump`] carries the bytes between the other end and the socket. Everything that
//! happens to bytes (a stop after N of them, a reset, silence) is therefore ordinary sequential code, above TLS, and
//! counts plaintext. HTTP/2 is followed only as far as frame headers: a head's frame begins a request or an answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::gateway::Core;
use crate::sandbox::fault::{Cut, CutRequest, Line, Stop};

/// What HTTP/2 clients say first (RFC 9113 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a closed side is read on, so that the other side sees an orderly end and no reset.
const LINGER: Duration = Duration::from_secs(10);

/// A socket, encrypted or not.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {
    /// The TCP connection underneath.
    fn tcp(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for tokio_rustls::server::TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Time between two provisional answers of an endless row: fast enough to be a flood, slow enough to leave a core.
const PROVISIONAL_PAUSE: Duration = Duration::from_millis(1);

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// Where it is cut, if anywhere.
    pub(super) cut: Option<(u64, Cut)>,
    /// So many provisional answers come first; without end when there is no number.
    pub(super) provisional: Option<Option<u64>>,
    /// Another answer follows that nobody asked for, and the connection ends.
    pub(super) idle: Option<u16>,
    /// The connection ends behind the answer.
    pub(super) end: Option<Cut>,
}

/// What the two sides of one connection tell each other.
#[derive(Debug)]
pub(super) struct Link {
    /// Counted over the gateway.
    pub(super) number: u64,
    /// The protocol.
    pub(super) http2: bool,
    /// Set by each answer before its first byte.
    manner: Mutex<Option<Manner>>,
    /// HTTP/1.1: the next byte begins a request.
    pub(super) fresh: AtomicBool,
    /// Bytes of the request that is arriving.
    arrived: AtomicU64,
    /// Whether its head was complete.
    pub(super) headed: AtomicBool,
    /// The connection shall end once it has answered.
    pub(super) closing: Notify,
}

impl Link {
    pub(super) fn new(number: u64, http2: bool) -> Self {
        Self {
            number,
            http2,
            manner: Mutex::new(None),
            fresh: AtomicBool::new(true),
            arrived: AtomicU64::new(0),
            headed: AtomicBool::new(false),
            closing: Notify::new(),
        }
    }

    /// How the answer that begins now is written; once for each.
    fn manner(&self) -> Option<Manner> {
        self.manner.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// An answer is about to be written.
    pub(super) fn answering(&self, manner: Manner) {
        *self.manner.lock().unwrap_or_else(PoisonError::into_inner) = Some(manner);
        self.fresh.store(true, Ordering::Release);
        self.headed.store(false, Ordering::Release);
        self.arrived.store(0, Ordering::Release);
    }
}

/// Why the pump stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// hyper is done with the connection.
    Served,
    /// The other side is gone.
    Gone,
    /// A script says so.
    Cut(Cut),
    /// A script has an answer written that belongs to no whole request.
    Answer(u16),
}

/// Carries bytes until either side is done or a script cuts them, and ends the connection accordingly. `first` was read
/// already.
pub(super) async fn pump(socket: impl Socket, pipe: DuplexStream, first: Vec<u8>, link: &Link, core: &Core) {
    let (mut from_peer, mut to_peer) = tokio::io::split(socket);
    let (mut from_hyper, mut to_hyper) = tokio::io::split(pipe);
    let end = tokio::select! {
        end = inbound(&mut from_peer, &mut to_hyper, first, link, core) => end,
        end = outbound(&mut from_hyper, &mut to_peer, link) => end,
    };
    if link.arrived.load(Ordering::Acquire) > 0 && !link.headed.load(Ordering::Acquire) {
        core.log
            .partial(core.clock.now(), link, link.arrived.load(Ordering::Acquire));
    }
    let mut socket = from_peer.unsplit(to_peer);
    // hyper must not take the end of the pipe for a chance to go on.
    drop((from_hyper, to_hyper));
    match end {
        End::Served => finish(socket, Cut::Fin).await,
        End::Gone => {}
        End::Cut(cut) => finish(socket, cut).await,
        End::Answer(status) => {
            if !link.http2 {
                let _ = socket.write_all(unasked(status).as_bytes()).await;
                let _ = socket.flush().await;
            }
            finish(socket, Cut::Fin).await;
        }
    }
}

/// An answer as proxies write it to a connection on which nothing came.
fn unasked(status: u16) -> String {
    let reason = http::StatusCode::from_u16(status).ok();
    let reason = reason.and_then(|status| status.canonical_reason()).unwrap_or_default();
    format!("HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

/// Ends a connection as told.
pub(super) async fn finish(mut socket: impl Socket, cut: Cut) {
    let mut rest = [0u8; 4096];
    match cut {
        Cut::Rst => {
            let _ = SockRef::from(socket.tcp()).set_linger(Some(Duration::ZERO));
        }
        Cut::Fin => {
            let _ = socket.shutdown().await;
            let drained = async { while matches!(socket.read(&mut rest).await, Ok(read) if read > 0) {} };
            let _ = tokio::time::timeout(LINGER, drained).await;
        }
        Cut::Stall => while matches!(socket.read(&mut rest).await, Ok(read) if read > 0) {},
    }
}

async fn inbound<S: Socket>(
    socket: &mut ReadHalf<S>,
    hyper: &mut WriteHalf<DuplexStream>,
    first: Vec<u8>,
    link: &Link,
    core: &Core,
) -> End {
    let mut frames = Frames::new(if link.http2 { PREFACE.len() } else { 0 });
    let mut cut: Option<(u64, Stop)> = None;
    // While a cut is ahead nothing reaches hyper, so that nothing can be executed.
    let mut held: Vec<u8> = Vec::new();
    let mut chunk = first;
    loop {
        if chunk.is_empty() {
            match more(socket, &mut chunk).await {
                Ok(0) => {
                    let _ = hyper.shutdown().await;
                    return std::future::pending().await;
                }
                Ok(_) => {}
                Err(_) => return End::Gone,
            }
        }
        let pieces = if link.http2 {
            frames.split(&std::mem::take(&mut chunk))
        } else {
            if link.fresh.swap(false, Ordering::AcqRel) {
                cut = first_cut(socket, &mut chunk, core).await;
            }
            vec![Piece {
                bytes: std::mem::take(&mut chunk),
                head: false,
                last: false,
            }]
        };
        for piece in pieces {
            if piece.head && cut.is_none() {
                cut = match core.script().take_cut_request(Line::Hidden) {
                    CutRequest::After(byte, how) => Some((byte, how)),
                    CutRequest::None | CutRequest::Later => None,
                };
                link.arrived.store(0, Ordering::Release);
            }
            let arrived = link.arrived.fetch_add(piece.bytes.len() as u64, Ordering::AcqRel) + piece.bytes.len() as u64;
            let Some((byte, how)) = cut else {
                if hyper.write_all(&piece.bytes).await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            };
            held.extend_from_slice(&piece.bytes);
            if arrived >= byte {
                link.arrived.store(byte, Ordering::Release);
                link.headed.store(false, Ordering::Release);
                return match how {
                    Stop::Cut(cut) => End::Cut(cut),
                    Stop::Answer(status) => End::Answer(status),
                };
            }
            if piece.last || (!link.http2 && whole(&held)) {
                cut = None;
                if hyper.write_all(&std::mem::take(&mut held)).await.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }
}

async fn more<S: Socket>(socket: &mut ReadHalf<S>, chunk: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut buffer = [0u8; 16 * 1024];
    let read = socket.read(&mut buffer).await?;
    chunk.extend_from_slice(buffer.get(..read).unwrap_or_default());
    Ok(read)
}

/// Asks the script about a request whose first bytes are here; reads on to the end of its first line when that matters.
async fn first_cut<S: Socket>(socket: &mut ReadHalf<S>, chunk: &mut Vec<u8>, core: &Core) -> Option<(u64, Stop)> {
    let mut line = Line::Partial;
    let mut text = String::new();
    loop {
        if line != Line::Partial {
            let mut words = text.split(' ');
            let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            line = Line::Whole(method, target.split('?').next().unwrap_or_default());
        }
        match core.script().take_cut_request(line) {
            CutRequest::None => return None,
            CutRequest::After(byte, cut) => return Some((byte, cut)),
            CutRequest::Later => {}
        }
        loop {
            if let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
                text = String::from_utf8_lossy(chunk.get(..end).unwrap_or_default())
                    .trim_end()
                    .to_owned();
                line = Line::Hidden;
                break;
            }
            if chunk.len() > 16 * 1024 || !matches!(more(socket, chunk).await, Ok(read) if read > 0) {
                return None;
            }
        }
    }
}

/// Whether an HTTP/1.1 request with a `Content-Length`, or without a body, is here whole.
fn whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).to_ascii_lowercase();
    let field = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value.trim().to_owned())
    };
    if field("transfer-encoding").is_some() {
        return bytes.ends_with(b"\r\n0\r\n\r\n");
    }
    let length = field("content-length")
        .and_then(|value| value.parse().ok())
        .unwrap_or(0);
    bytes.len() >= end + 4 + length
}

async fn outbound<S: Socket>(hyper: &mut ReadHalf<DuplexStream>, socket: &mut WriteHalf<S>, link: &Link) -> End {
    let mut frames = Frames::new(0);
    let mut manner = Manner::default();
    // The answer so far, while something is to follow it.
    let mut written: Vec<u8> = Vec::new();
    let mut buffer = [0u8; 16 * 1024];
    loop {
        let bytes = match hyper.read(&mut buffer).await {
            Ok(read) if read > 0 => buffer.get(..read).unwrap_or_default(),
            _ => return End::Served,
        };
        let pieces = if link.http2 {
            frames.split(bytes)
        } else {
            vec![Piece {
                bytes: bytes.to_vec(),
                head: true,
                last: false,
            }]
        };
        for piece in pieces {
            if piece.head
                && let Some(new) = link.manner()
            {
                manner = new;
                if let Some(count) = manner.provisional.take()
                    && !link.http2
                    && provisional(socket, count).await.is_err()
                {
                    return End::Gone;
                }
            }
            let length = piece.bytes.len() as u64;
            let Some((left, how)) = &mut manner.cut else {
                if socket.write_all(&piece.bytes).await.is_err() {
                    return End::Gone;
                }
                let then = match (manner.idle, manner.end) {
                    (Some(status), _) => End::Answer(status),
                    (None, Some(cut)) => End::Cut(cut),
                    (None, None) => continue,
                };
                written.extend_from_slice(&piece.bytes);
                if whole(&written) {
                    let _ = socket.flush().await;
                    return then;
                }
                continue;
            };
            let allowed = usize::try_from(*left).unwrap_or(usize::MAX).min(piece.bytes.len());
            if socket
                .write_all(piece.bytes.get(..allowed).unwrap_or_default())
                .await
                .is_err()
            {
                return End::Gone;
            }
            if *left <= length {
                let how = *how;
                let _ = socket.flush().await;
                return End::Cut(how);
            }
            *left -= length;
        }
        if socket.flush().await.is_err() {
            return End::Gone;
        }
    }
}

/// Writes provisional answers: so many, or until nobody takes them any more.
async fn provisional<S: Socket>(socket: &mut WriteHalf<S>, count: Option<u64>) -> std::io::Result<()> {
    let mut left = count;
    while left != Some(0) {
        socket
            .write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
            .await?;
        socket.flush().await?;
        match &mut left {
            Some(left) => *left -= 1,
            None => tokio::time::sleep(PROVISIONAL_PAUSE).await,
        }
    }
    Ok(())
}

/// Part of a stream of bytes.
struct Piece {
    bytes: Vec<u8>,
    /// A request or an answer begins with it.
    head: bool,
    /// A request or an answer ends with it.
    last: bool,
}

/// Follows HTTP/2 frames (RFC 9113 4.1), whatever the pieces they come in.
struct Frames {
    /// Bytes that are no frame (the preface), or the rest of a frame's payload.
    skip: usize,
    /// The frame whose payload is being skipped ends a stream.
    last: bool,
    /// A frame header that is not whole.
    header: Vec<u8>,
}

impl Frames {
    fn new(preface: usize) -> Self {
        Self {
            skip: preface,
            last: false,
            header: Vec::new(),
        }
    }

    /// Cuts bytes at the beginning of heads and at the end of streams. An incomplete frame header is kept back.
    fn split(&mut self, mut bytes: &[u8]) -> Vec<Piece> {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const END_STREAM: u8 = 1;
        let mut pieces = Vec::new();
        let mut current = Piece {
            bytes: Vec::new(),
            head: false,
            last: false,
        };
        let mut next = |current: &mut Piece, head: bool| {
            let done = std::mem::replace(
                current,
                Piece {
                    bytes: Vec::new(),
                    head,
                    last: false,
                },
            );
            if !done.bytes.is_empty() {
                pieces.push(done);
            }
        };
        while !bytes.is_empty() {
            if self.skip > 0 {
                let (part, rest) = bytes.split_at(self.skip.min(bytes.len()));
                current.bytes.extend_from_slice(part);
                self.skip -= part.len();
                bytes = rest;
                if self.skip == 0 && std::mem::take(&mut self.last) {
                    current.last = true;
                    next(&mut current, false);
                }
                continue;
            }
            let (part, rest) = bytes.split_at((9 - self.header.len()).min(bytes.len()));
            self.header.extend_from_slice(part);
            bytes = rest;
            let [a, b, c, kind, flags, ..] = *self.header.as_slice() else {
                break;
            };
            if self.header.len() < 9 {
                break;
            }
            if kind == HEADERS {
                next(&mut current, true);
            }
            current.bytes.append(&mut self.header);
            self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            let last = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
            if last && self.skip == 0 {
                current.last = true;
                next(&mut current, false);
            } else {
                self.last = last;
            }
        }
        next(&mut current, false);
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_however_the_bytes_are_cut() {
        let frame = |kind: u8, flags: u8, length: u8| {
            let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
            bytes.extend(std::iter::repeat_n(7, usize::from(length)));
            bytes
        };
        let mut stream = PREFACE.to_vec();
        for part in [
            frame(4, 0, 0),
            frame(1, 4, 5),
            frame(0, 1, 3),
            frame(8, 0, 4),
            frame(1, 5, 2),
        ] {
            stream.extend(part);
        }
        for size in 1..stream.len() {
            let mut frames = Frames::new(PREFACE.len());
            let (mut all, mut heads, mut ends) = (Vec::new(), Vec::new(), Vec::new());
            for chunk in stream.chunks(size) {
                for piece in frames.split(chunk) {
                    if piece.head {
                        heads.push(all.len());
                    }
                    all.extend(piece.bytes);
                    if piece.last {
                        ends.push(all.len());
                    }
                }
            }
            assert_eq!(all, stream, "in pieces of {size}");
            assert_eq!(heads, [33, 33 + 14 + 12 + 13], "in pieces of {size}");
            assert_eq!(ends, [33 + 14 + 12, stream.len()], "in pieces of {size}");
        }
    }

    #[test]
    fn a_request_is_whole_when_its_framing_says_so() {
        assert!(!whole(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"));
        assert!(whole(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"));
        assert!(whole(b"GET / HTTP/1.1\r\n\r\n"));
        assert!(!whole(b"GET / HTTP/1.1\r\n"));
        assert!(whole(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
        ));
    }
}
