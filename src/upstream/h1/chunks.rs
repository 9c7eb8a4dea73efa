//! An answer in chunks (RFC 9112 section 7.1), taken apart.
//!
//! Stricter than the grammar where leniency helps nobody: a size has at most 15 digits, lines end in CRLF, and what the
//! extensions of one answer (which mean nothing to anybody) and its trailer may fill is limited.

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

use super::Fault;

/// The longest line before a chunk, its extensions included.
const MAX_LINE: usize = 4 * 1024;
/// What the extensions of one answer may fill.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// What the trailer may fill, and the fields in it.
const MAX_TRAILER: usize = 16 * 1024;
const MAX_FIELDS: usize = 100;

/// Where in a body we are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::upstream) struct Chunks {
    place: Place,
    /// Bytes of extensions so far.
    extensions: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before a chunk's size.
    #[default]
    Size,
    /// So many bytes of a chunk are to come.
    Data(u64),
    /// Behind a chunk's data.
    DataEnd,
    /// Behind the last chunk.
    Trailer,
}

/// What came next.
#[derive(Debug)]
pub(super) enum Step {
    /// More bytes are needed.
    More,
    Data(Bytes),
    /// The body is over; with its trailer, where there is one.
    End(Option<HeaderMap>),
}

impl Chunks {
    /// Takes the next step off the front of `inbox`.
    pub(super) fn step(&mut self, inbox: &mut BytesMut) -> Result<Step, Fault> {
        loop {
            match self.place {
                Place::Size => {
                    let Some(end) = memchr(b'\n', inbox) else {
                        return match inbox.len() > MAX_LINE {
                            true => Err(Fault::Malformed("a chunk's size")),
                            false => Ok(Step::More),
                        };
                    };
                    let (size, extensions) = size(&inbox[..end]).ok_or(Fault::Malformed("a chunk's size"))?;
                    self.extensions += extensions;
                    if self.extensions > MAX_EXTENSIONS || end > MAX_LINE {
                        return Err(Fault::Malformed("extensions of chunks"));
                    }
                    inbox.advance(end + 1);
                    self.place = match size {
                        0 => Place::Trailer,
                        size => Place::Data(size),
                    };
                }
                Place::Data(left) => {
                    if inbox.is_empty() {
                        return Ok(Step::More);
                    }
                    let take = usize::try_from(left).map_or(inbox.len(), |left| left.min(inbox.len()));
                    self.place = match left - take as u64 {
                        0 => Place::DataEnd,
                        left => Place::Data(left),
                    };
                    return Ok(Step::Data(inbox.split_to(take).freeze()));
                }
                Place::DataEnd => match &inbox[..] {
                    [] | [b'\r'] => return Ok(Step::More),
                    [b'\r', b'\n', ..] => {
                        inbox.advance(2);
                        self.place = Place::Size;
                    }
                    _ => return Err(Fault::Malformed("a chunk's end")),
                },
                Place::Trailer => return trailer(inbox),
            }
        }
    }
}

/// The size that a line before a chunk tells (without its line feed), and how much else is on it.
fn size(line: &[u8]) -> Option<(u64, usize)> {
    let line = line.strip_suffix(b"\r")?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    // 15 digits keep it far from overflow in every reader's integer.
    if !(1..=15).contains(&digits) {
        return None;
    }
    let (number, rest) = line.split_at(digits);
    let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let extension = &rest[padding..];
    let visible = |byte: &u8| *byte == b'\t' || (b' '..=b'~').contains(byte) || *byte >= 0x80;
    if !extension.is_empty() && (extension[0] != b';' || !extension.iter().all(visible)) {
        return None;
    }
    let number = std::str::from_utf8(number).ok()?;
    Some((u64::from_str_radix(number, 16).ok()?, rest.len()))
}

fn trailer(inbox: &mut BytesMut) -> Result<Step, Fault> {
    let mut space = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let httparse::Status::Complete((length, fields)) = httparse::parse_headers(inbox, &mut space)? else {
        return match inbox.len() > MAX_TRAILER {
            true => Err(Fault::TooLarge),
            false => Ok(Step::More),
        };
    };
    if length > MAX_TRAILER {
        return Err(Fault::TooLarge);
    }
    let mut trailer = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Fault::Malformed("the trailer"));
        };
        trailer.append(name, value);
    }
    inbox.advance(length);
    Ok(Step::End(Some(trailer).filter(|trailer| !trailer.is_empty())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes bytes that arrive in pieces of these lengths. The body, whether it ended, its trailer, and what is left.
    fn decode(bytes: &[u8], pieces: &[usize]) -> Result<(Vec<u8>, bool, usize, usize), String> {
        let (mut chunks, mut inbox, mut body) = (Chunks::default(), BytesMut::new(), Vec::new());
        let mut pieces = pieces.iter().copied().chain(std::iter::repeat(usize::MAX));
        let mut rest = bytes;
        loop {
            match chunks.step(&mut inbox).map_err(|fault| fault.to_string())? {
                Step::Data(data) => body.extend_from_slice(&data),
                Step::End(trailer) => {
                    let fields = trailer.map_or(0, |trailer| trailer.len());
                    return Ok((body, true, fields, inbox.len() + rest.len()));
                }
                Step::More if rest.is_empty() => return Ok((body, false, 0, 0)),
                Step::More => {
                    let (piece, after) = rest.split_at(pieces.next().unwrap_or(1).min(rest.len()));
                    inbox.extend_from_slice(piece);
                    rest = after;
                }
            }
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for refused in [
            "\r\nabc\r\n0\r\n\r\n",
            "x\r\n",
            "+3\r\nabc\r\n0\r\n\r\n",
            "0x3\r\nabc\r\n0\r\n\r\n",
            " 3\r\nabc\r\n0\r\n\r\n",
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3 x\r\nabc\r\n0\r\n\r\n",
            "3;a\rb\r\nabc\r\n0\r\n\r\n",
            "3;a\0b\r\nabc\r\n0\r\n\r\n",
            "1234567890abcdef\r\n",
            "0\r\nx : 1\r\n\r\n",
            "0\r\nx: 1\r\n y\r\n\r\n",
        ] {
            assert!(decode(refused.as_bytes(), &[]).is_err(), "{refused:?}");
        }
        let extensions = format!("1;{}\r\na\r\n", "x".repeat(4000)).repeat(5);
        assert!(decode(extensions.as_bytes(), &[]).is_err());
        assert!(decode("0".repeat(5000).as_bytes(), &[]).is_err());
        let trailer = format!("0\r\nx: {}", "y".repeat(20_000));
        assert!(decode(trailer.as_bytes(), &[]).is_err());
    }

    #[test]
    fn what_follows_the_last_chunk_is_left_alone() {
        let (body, ended, fields, left) =
            decode(b"3 ;a=\"b\"\r\nabc\r\n000\r\nx-sum: 7\r\ny: 8\r\n\r\nHTTP", &[]).unwrap();
        assert_eq!((&body[..], ended, fields, left), (&b"abc"[..], true, 2, 4));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn the_body_does_not_depend_on_how_its_bytes_arrive(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            pieces in proptest::collection::vec(1usize..12, 0..200),
            cut in any::<proptest::sample::Index>(),
        ) {
            let (mut whole, mut body) = (Vec::new(), Vec::new());
            for chunk in &chunks {
                whole.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                whole.extend_from_slice(chunk);
                whole.extend_from_slice(b"\r\n");
                body.extend_from_slice(chunk);
            }
            whole.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(decode(&whole, &pieces), Ok((body, true, 0, 0)));
            let short = &whole[..cut.index(whole.len())];
            prop_assert!(decode(short, &pieces).is_ok_and(|(_, ended, ..)| !ended));
        }
    }
}
