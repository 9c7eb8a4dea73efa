//! The strict guard over HTTP/1.1: one pass over the raw bytes of a connection, before hyper sees them.
//!
//! It follows the framing of every message, so that body bytes are never read as a head, and says after each read how many
//! bytes may be handed on. A head is handed on only when it is complete and accepted; hyper therefore never holds part of
//! a head that is refused later, and its idle connection can simply be ended. Body bytes are handed on as they come.
//!
//! # What it refuses
//! Everything that two parsers read differently (RFC 9112, and the smuggling literature): `Content-Length` with
//! `Transfer-Encoding`, any coding but exactly `chunked`, repeated or decorated `Content-Length`, line feeds without
//! carriage return, folded lines, space around header names, missing, repeated or contradicting `Host`, paths that servers
//! normalise ([`super::target`]), upgrades, trailers, malformed chunks. The full list is [`Violation`].
//!
//! One empty line before a request line is skipped (RFC 9112 2.2). Chunk extensions of visible ASCII are let through and
//! dropped by hyper; RFC 9112 7.1.1 wants them ignored.
//!
//! # Invariants
//! - The verdict does not depend on how the bytes were split into reads.
//! - It never panics, and keeps no bytes: offsets are relative to the first byte that was not handed on.

use memchr::memchr;

use super::refusal::Violation;
use super::target::{check_connection, check_host, check_method, check_target, is_alias, split_absolute};

/// Limits on a request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The whole head, in bytes. Default 64 KiB: hyper's own default of 408 KiB is memory for attackers.
    pub head: usize,
    /// Header lines. Default 100, as many as hyper parses without allocating.
    pub headers: usize,
    /// The request line, in bytes. Default 16 KiB.
    pub line: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: 64 * 1024,
            headers: 100,
            line: 16 * 1024,
        }
    }
}

/// Follows one connection.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    state: State,
    head: Head,
    heads: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// Bytes of a body of known length that are still to come.
    Fixed(u64),
    Chunked(Chunk),
    Refused(Violation, Place),
}

/// Where a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In its head, of which nothing was handed on.
    Head,
    /// In its body: its head was handed on.
    Body,
}

/// Positions in a chunked body (RFC 9112 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size {
        value: u64,
        digits: u8,
    },
    Extension {
        value: u64,
        len: u16,
    },
    SizeLf {
        value: u64,
    },
    Data(u64),
    DataCr,
    DataLf,
    /// After the last chunk: the final empty line, or a trailer.
    End,
    EndLf,
}

const CHUNK: State = State::Chunked(Chunk::Size { value: 0, digits: 0 });

/// What is known of the head being read. Offsets count from its first byte.
#[derive(Debug, Default)]
struct Head {
    /// Bytes searched for a line feed.
    scanned: usize,
    /// Start of the current line.
    line: usize,
    skipped_empty: bool,
    request_line: bool,
    old_version: bool,
    /// An absolute-form target, as offsets of its authority.
    authority: Option<(usize, usize)>,
    host: Option<(usize, usize)>,
    length: Option<u64>,
    chunked: bool,
    headers: usize,
}

impl Guard {
    /// A guard for a new connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Head,
            head: Head::default(),
            heads: 0,
        }
    }

    /// Heads handed on so far.
    pub fn heads(&self) -> u32 {
        self.heads
    }

    /// What was refused, if anything was. A refused connection stays refused.
    pub fn refused(&self) -> Option<(Violation, Place)> {
        match self.state {
            State::Refused(violation, place) => Some((violation, place)),
            _ => None,
        }
    }

    /// Whether the guard is inside a body.
    pub fn in_body(&self) -> bool {
        matches!(
            self.state,
            State::Fixed(_) | State::Chunked(_) | State::Refused(_, Place::Body)
        )
    }

    /// Refuses the connection from outside (a head that is too slow).
    pub fn refuse(&mut self, violation: Violation) {
        if self.refused().is_none() {
            self.state = State::Refused(violation, if self.in_body() { Place::Body } else { Place::Head });
        }
    }

    /// Looks at bytes and says how many of them, from the front, may be handed on. The rest is the start of an incomplete
    /// or refused message: the caller keeps it and shows it again, followed by what was read next.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.state {
                State::Refused(..) => break,
                State::Head => match self.head.read(rest, &self.limits) {
                    Ok(None) => break,
                    Ok(Some(len)) => {
                        self.state = match (self.head.chunked, self.head.length.unwrap_or(0)) {
                            (true, _) => CHUNK,
                            (false, 0) => State::Head,
                            (false, length) => State::Fixed(length),
                        };
                        self.head = Head::default();
                        self.heads = self.heads.wrapping_add(1);
                        at += len;
                    }
                    Err(violation) => self.state = State::Refused(violation, Place::Head),
                },
                State::Fixed(left) => {
                    let take = left.min(rest.len() as u64);
                    self.state = if take == left {
                        State::Head
                    } else {
                        State::Fixed(left - take)
                    };
                    at += take as usize;
                }
                State::Chunked(Chunk::Data(left)) => {
                    let take = left.min(rest.len() as u64);
                    self.state = State::Chunked(if take == left {
                        Chunk::DataCr
                    } else {
                        Chunk::Data(left - take)
                    });
                    at += take as usize;
                }
                State::Chunked(chunk) => match chunk.step(rest[0]) {
                    Ok(next) => {
                        self.state = next.map_or(State::Head, State::Chunked);
                        at += 1;
                    }
                    Err(violation) => self.state = State::Refused(violation, Place::Body),
                },
            }
        }
        at
    }
}

impl Chunk {
    /// Takes one byte of framing. `None` is the end of the message.
    fn step(self, byte: u8) -> Result<Option<Self>, Violation> {
        let next = match (self, byte) {
            (Self::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                // 15 digits keep the value far from overflow in every parser's integer.
                if digits == 15 {
                    return Err(Violation::Chunk);
                }
                let digit = char::from(byte).to_digit(16).ok_or(Violation::Chunk)?;
                Self::Size {
                    value: value * 16 + u64::from(digit),
                    digits: digits + 1,
                }
            }
            (Self::Size { value, digits: 1.. }, b'\r') => Self::SizeLf { value },
            (Self::Size { value, digits: 1.. }, b';') => Self::Extension { value, len: 0 },
            (Self::Extension { value, .. }, b'\r') => Self::SizeLf { value },
            (
                Self::Extension {
                    value,
                    len: len @ ..1024,
                },
                b'\t' | b' '..=b'~',
            ) => Self::Extension { value, len: len + 1 },
            (Self::SizeLf { value: 0 }, b'\n') => Self::End,
            (Self::SizeLf { value }, b'\n') => Self::Data(value),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size { value: 0, digits: 0 },
            (Self::End, b'\r') => Self::EndLf,
            (Self::End, b'!'..=b'~') => return Err(Violation::Trailers),
            (Self::EndLf, b'\n') => return Ok(None),
            _ => return Err(Violation::Chunk),
        };
        Ok(Some(next))
    }
}

impl Head {
    /// Reads on. `head` begins at the head's first byte and holds everything that arrived of it. Gives the head's length
    /// once it is complete.
    fn read(&mut self, head: &[u8], limits: &Limits) -> Result<Option<usize>, Violation> {
        loop {
            if !self.request_line
                && let Some(first) = head.get(self.line)
            {
                check_first(*first)?;
            }
            let Some(found) = memchr(b'\n', &head[self.scanned..]) else {
                self.scanned = head.len();
                self.check_size(head.len(), limits)?;
                return Ok(None);
            };
            let end = self.scanned + found;
            self.check_size(end, limits)?;
            let (start, after) = (self.line, end + 1);
            if end == start || head[end - 1] != b'\r' {
                return Err(Violation::BareLineFeed);
            }
            (self.scanned, self.line) = (after, after);
            let line = &head[start..end - 1];
            if !self.request_line {
                if line.is_empty() {
                    if std::mem::replace(&mut self.skipped_empty, true) {
                        return Err(Violation::EmptyLine);
                    }
                    continue;
                }
                self.request_line(line, start)?;
                self.request_line = true;
            } else if line.is_empty() {
                let lines = self.headers + 2 + usize::from(self.skipped_empty);
                if has_stray_controls(&head[..after], lines) {
                    return Err(Violation::HeaderValue);
                }
                self.finish(head)?;
                return Ok(Some(after));
            } else {
                self.headers += 1;
                if self.headers > limits.headers {
                    return Err(Violation::TooManyHeaders);
                }
                self.header_line(line, start)?;
            }
        }
    }

    /// `end` bytes of the head have no room for its end yet.
    fn check_size(&self, end: usize, limits: &Limits) -> Result<(), Violation> {
        if !self.request_line && end - self.line > limits.line {
            Err(Violation::TargetTooLong)
        } else if end > limits.head {
            Err(Violation::HeadTooLarge)
        } else {
            Ok(())
        }
    }

    fn request_line(&mut self, line: &[u8], start: usize) -> Result<(), Violation> {
        let method_end = memchr(b' ', line).ok_or(Violation::RequestLine)?;
        check_method(&line[..method_end])?;
        let rest = &line[method_end + 1..];
        let (target, version) = rest
            .split_at_checked(rest.len().wrapping_sub(9))
            .ok_or_else(|| not_a_request_line(rest))?;
        match version {
            b" HTTP/1.1" => {}
            b" HTTP/1.0" => self.old_version = true,
            [b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Violation::Version);
            }
            _ => return Err(not_a_request_line(rest)),
        }
        if target.first() == Some(&b'/') {
            return check_target(target);
        }
        let (authority, origin) = split_absolute(target).ok_or(Violation::Target)?;
        check_host(authority)?;
        check_target(origin)?;
        // The rest of the line after the authority: origin, then the version.
        let end = start + line.len() - version.len() - origin.len();
        self.authority = Some((end - authority.len(), end));
        Ok(())
    }

    fn header_line(&mut self, line: &[u8], start: usize) -> Result<(), Violation> {
        if matches!(line[0], b' ' | b'\t') {
            return Err(Violation::FoldedLine);
        }
        // The first byte that cannot be in a name must be the colon.
        let colon = line
            .iter()
            .position(|b| !TOKEN[*b as usize])
            .ok_or(Violation::HeaderName)?;
        if colon == 0 || line[colon] != b':' {
            return Err(Violation::HeaderName);
        }
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let value = trim(value);
                check_host(value)?;
                let from = start + colon + 1 + offset(&line[colon + 1..]);
                if self.host.replace((from, from + value.len())).is_some() {
                    return Err(Violation::HostRepeated);
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") && !trim(value).eq_ignore_ascii_case(b"100-continue") => {
                return Err(Violation::Expectation);
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => return Err(Violation::Upgrade),
            10 if name.eq_ignore_ascii_case(b"connection") => check_connection(value)?,
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(plain(trim(value))?)?,
            14 if name.eq_ignore_ascii_case(b"http2-settings") => return Err(Violation::Upgrade),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(plain(trim(value))?)?,
            14 | 17 if is_alias(name) => return Err(Violation::HeaderAlias),
            _ => {}
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Violation> {
        if self.chunked {
            return Err(Violation::LengthAndEncoding);
        }
        if self.length.is_some() {
            return Err(Violation::ContentLengthRepeated);
        }
        // 18 digits fit every 64-bit integer, signed too. A leading zero is octal to some.
        let plain =
            matches!(value, [b'0'] | [b'1'..=b'9', ..]) && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
        if !plain {
            return Err(Violation::ContentLength);
        }
        self.length = Some(value.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')));
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Violation> {
        if self.length.is_some() {
            return Err(Violation::LengthAndEncoding);
        }
        if self.old_version {
            return Err(Violation::EncodingInOldVersion);
        }
        match value {
            b"chunked" if !self.chunked => {
                self.chunked = true;
                Ok(())
            }
            b"gzip" | b"deflate" | b"compress" | b"x-gzip" | b"x-compress" if !self.chunked => {
                Err(Violation::TransferCoding)
            }
            _ => Err(Violation::TransferEncoding),
        }
    }

    fn finish(&self, head: &[u8]) -> Result<(), Violation> {
        match (self.host, self.authority) {
            (Some(host), Some(authority)) => {
                let (host, authority) = (&head[host.0..host.1], &head[authority.0..authority.1]);
                if host.eq_ignore_ascii_case(authority) {
                    Ok(())
                } else {
                    Err(Violation::Host)
                }
            }
            (None, _) if !self.old_version => Err(Violation::HostMissing),
            _ => Ok(()),
        }
    }
}

/// What a line is whose end is no HTTP version: another protocol where a third word stands that does not begin as `HTTP`
/// does.
fn not_a_request_line(rest: &[u8]) -> Violation {
    let third = rest.iter().rposition(|b| *b == b' ').map(|space| &rest[space + 1..]);
    match third {
        Some(word @ [first, ..]) if !first.eq_ignore_ascii_case(&b'h') && word.iter().all(u8::is_ascii_graphic) => {
            Violation::NotHttp
        }
        _ => Violation::RequestLine,
    }
}

/// The first byte tells garbage from HTTP before a whole line has come.
fn check_first(byte: u8) -> Result<(), Violation> {
    match byte {
        b'A'..=b'Z' | b'\r' => Ok(()),
        b'\n' => Err(Violation::BareLineFeed),
        0x16 => Err(Violation::TlsOnPlainPort),
        _ => Err(Violation::Method),
    }
}

/// Whether a head of so many lines holds a control byte that is no tab and no line end, or a carriage return that ends no
/// line. Every line feed of the head was found to end a line, behind a carriage return: so the head holds two control
/// bytes for each line at least, and one more of whatever kind shows in the count. Counting needs no branch, and the
/// compiler turns fixed blocks into vector instructions: cheaper than a look at each value.
fn has_stray_controls(head: &[u8], lines: usize) -> bool {
    /// Blocks after which a lane of the count could overflow.
    const LANES_FULL: usize = 255;
    let (blocks, rest) = head.as_chunks::<32>();
    let mut controls = rest.iter().filter(|b| is_control(**b)).count();
    for blocks in blocks.chunks(LANES_FULL) {
        let mut lanes = [0u8; 32];
        for block in blocks {
            for (lane, &b) in lanes.iter_mut().zip(block) {
                *lane = lane.wrapping_add(u8::from(is_control(b)));
            }
        }
        controls += lanes.iter().map(|lane| usize::from(*lane)).sum::<usize>();
    }
    controls != 2 * lines
}

/// A control byte that is no tab.
const fn is_control(b: u8) -> bool {
    ((b < b' ') & (b != b'\t')) | (b == 0x7f)
}

/// A framing value without control bytes: these decide what a value is taken for, so they are told apart at once.
fn plain(value: &[u8]) -> Result<&[u8], Violation> {
    if value.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
        return Err(Violation::HeaderValue);
    }
    Ok(value)
}

/// Optional white space in front (RFC 9110 5.6.3).
fn offset(value: &[u8]) -> usize {
    value.iter().take_while(|b| matches!(b, b' ' | b'\t')).count()
}

fn trim(value: &[u8]) -> &[u8] {
    let value = &value[offset(value)..];
    let end = value
        .iter()
        .rposition(|b| !matches!(b, b' ' | b'\t'))
        .map_or(0, |last| last + 1);
    &value[..end]
}

/// Token characters (RFC 9110 5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds a connection in pieces as the IO wrapper does. Gives the bytes handed on and the end state.
    fn run(input: &[u8], mut cuts: impl FnMut(usize) -> usize) -> (Vec<u8>, u32, Option<(Violation, Place)>) {
        let mut guard = Guard::new(Limits {
            head: 400,
            headers: 10,
            line: 120,
        });
        let (mut held, mut passed, mut at) = (Vec::new(), Vec::new(), 0);
        while at < input.len() && guard.refused().is_none() {
            let take = cuts(input.len() - at).clamp(1, input.len() - at);
            held.extend_from_slice(&input[at..at + take]);
            at += take;
            let n = guard.feed(&held);
            passed.extend(held.drain(..n));
        }
        (passed, guard.heads(), guard.refused())
    }

    /// Pieces of requests, good and bad, so that random concatenations reach deep states.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let words: Vec<&'static [u8]> = vec![
            b"GET / HTTP/1.1\r\n",
            b"POST /v1/charges?a[b]=c HTTP/1.1\r\n",
            b"GET http://a/ HTTP/1.1\r\n",
            b"Host: a\r\n",
            b"host:\ta \r\n",
            b"Content-Length: 5\r\n",
            b"Content-Length: 0\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"X: y\r\n",
            b" folded\r\n",
            b"X : y\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b"hello",
            b"5\r\nhello\r\n",
            b"5;e=1\r\nhello\r\n",
            b"0\r\n\r\n",
            b"0\r\nT: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ];
        prop_oneof![9 => proptest::sample::select(words).prop_map(<[u8]>::to_vec), 1 => proptest::collection::vec(any::<u8>(), 0..150)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn the_verdict_does_not_depend_on_how_the_bytes_were_split(
            pieces in proptest::collection::vec(piece(), 0..12),
            cuts in proptest::collection::vec(1usize..40, 1..40),
        ) {
            let input = pieces.concat();
            let whole = run(&input, |n| n);
            prop_assert_eq!(&run(&input, |_| 1), &whole);
            let mut cut = cuts.iter().cycle();
            prop_assert_eq!(&run(&input, |_| *cut.next().unwrap()), &whole);
        }

        #[test]
        fn random_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..600)) {
            let (passed, _, _) = run(&input, |n| n);
            prop_assert!(input.starts_with(&passed));
        }
    }

    #[test]
    fn a_plain_request_is_handed_on_in_one_piece() {
        let request = b"POST /v1/charges HTTP/1.1\r\nHost: a:8081\r\nContent-Length: 3\r\n\r\na=bGET / HTTP/1.1\r\nHost: a\r\n\r\nGE";
        let mut guard = Guard::new(Limits::default());
        assert_eq!(guard.feed(request), request.len() - 2);
        assert_eq!((guard.heads(), guard.refused()), (2, None));
    }

    #[test]
    fn body_bytes_are_never_read_as_a_head() {
        let (passed, heads, refused) = run(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\nGET /bad\nHTTP/9.9\n",
            |_| 3,
        );
        assert_eq!((heads, refused), (1, None));
        assert!(passed.ends_with(b"9.9\n"));
    }

    #[test]
    fn limits_are_exact() {
        let fill = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(n));
        let ok = fill(400 - 1 - fill(0).len() + 2);
        assert_eq!(run(ok.as_bytes(), |n| n).2, None);
        let long = fill(400);
        assert_eq!(
            run(long.as_bytes(), |n| n).2,
            Some((Violation::HeadTooLarge, Place::Head))
        );
        let line = format!("GET /{} HTTP/1.1\r\n", "x".repeat(120));
        assert_eq!(
            run(line.as_bytes(), |_| 7).2,
            Some((Violation::TargetTooLong, Place::Head))
        );
    }
}
