//! Heads: a request's is written, an answer's is read.
//!
//! An answer whose end two readers could see in different places is refused, not interpreted (RFC 9112 section 6.3): a
//! repeated or malformed `Content-Length`, one beside `Transfer-Encoding`, any coding but exactly `chunked`, a coding in
//! HTTP/1.0. So are folded lines, control characters and bare carriage returns (by httparse), more than [`MAX_FIELDS`]
//! fields, and a switch of protocols that nobody asked for.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use hyper::ext::ReasonPhrase;

use super::Fault;

/// Fields of an answer, at most.
const MAX_FIELDS: usize = 100;

/// How the end of a request's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum Coding {
    /// So many bytes are still to come.
    Length(u64),
    Chunked,
}

/// How the end of an answer's body is told (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum Framing {
    Length(u64),
    Chunked,
    /// It ends with its connection.
    Close,
}

/// Where a request goes, and what of it is not the caller's.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct Target<'a> {
    /// Before every path.
    pub(in crate::upstream) base: &'a str,
    /// What `Host` says.
    pub(in crate::upstream) authority: &'a HeaderValue,
}

/// Writes a request's head. `Host` and the framing are put in here; a declared length must be the body's own, where the
/// body (`size`) tells it.
///
/// # Errors
/// When the lengths contradict each other: nothing was written.
pub(in crate::upstream) fn write(
    out: &mut Vec<u8>,
    target: &Target<'_>,
    (method, uri, headers): (&Method, &http::Uri, &HeaderMap),
    size: Option<u64>,
) -> Result<Coding, Fault> {
    let began = out.len();
    for part in [
        method.as_str(),
        " ",
        target.base,
        uri.path_and_query().map_or("/", |target| target.as_str()),
        " HTTP/1.1\r\nhost: ",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(target.authority.as_bytes());
    let mut declared = None;
    for (name, value) in headers {
        if name == header::HOST || name == header::TRANSFER_ENCODING {
            continue;
        }
        if name == header::CONTENT_LENGTH {
            let length = digits(value.as_bytes()).filter(|length| size.is_none_or(|size| size == *length));
            if declared.is_some() || length.is_none() {
                out.truncate(began);
                return Err(Fault::Broken);
            }
            declared = length;
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
    }
    let coding = match (declared, size) {
        (Some(length), _) => Coding::Length(length),
        (None, Some(0)) => Coding::Length(0),
        (None, Some(length)) => {
            out.extend_from_slice(format!("\r\ncontent-length: {length}").as_bytes());
            Coding::Length(length)
        }
        (None, None) => {
            out.extend_from_slice(b"\r\ntransfer-encoding: chunked");
            Coding::Chunked
        }
    };
    out.extend_from_slice(b"\r\n\r\n");
    Ok(coding)
}

/// What an answer's head says, its fields apart.
#[derive(Debug)]
pub(in crate::upstream) struct Head {
    pub(in crate::upstream) status: StatusCode,
    pub(in crate::upstream) version: Version,
    /// Where it is not the usual one.
    pub(in crate::upstream) reason: Option<ReasonPhrase>,
    pub(in crate::upstream) framing: Framing,
    /// Whether the connection may be used again.
    pub(in crate::upstream) keep: bool,
    /// The bytes that the fields' values are in.
    bytes: Bytes,
}

/// What the bytes that arrived are.
#[derive(Debug)]
pub(super) enum Read {
    /// The beginning of a head.
    Partial,
    /// An answer before the answer (RFC 9110 15.2), which was skipped.
    Interim,
    Head(Head),
}

/// The fields of the last head that was read on a connection. A gateway names the same fields in every answer: their
/// names are kept, and only compared.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<Field>);

#[derive(Debug)]
struct Field {
    name: HeaderName,
    /// Where the value begins and ends in the head.
    value: (usize, usize),
}

impl Fields {
    /// Reads an answer's head off the front of `inbox`. `method` is the request's.
    pub(super) fn read(&mut self, inbox: &mut BytesMut, method: &Method) -> Result<Read, Fault> {
        let mut space = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut answer = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        let parsed = parser.parse_response_with_uninit_headers(&mut answer, &inbox[..], &mut space);
        let httparse::Status::Complete(length) = parsed? else {
            return Ok(Read::Partial);
        };
        let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
        let (Some(status), Some(reason)) = (status, answer.reason) else {
            return Err(Fault::Malformed("status"));
        };
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Fault::Malformed("it switches protocols unasked"));
        }
        if status.is_informational() {
            inbox.advance(length);
            return Ok(Read::Interim);
        }
        let old = answer.version != Some(1);
        let reason = match Some(reason) == status.canonical_reason() {
            true => None,
            false => ReasonPhrase::try_from(reason.as_bytes().to_vec()).ok(),
        };
        let start = inbox.as_ptr().addr();
        let (mut declared, mut chunked, mut keep) = (None, false, !old);
        self.0.truncate(answer.headers.len());
        for (index, field) in answer.headers.iter().enumerate() {
            let from = match field.value.is_empty() {
                true => 0,
                false => field.value.as_ptr().addr() - start,
            };
            let value = (from, from + field.value.len());
            let name = match self.0.get_mut(index) {
                Some(known) if known.name.as_str().eq_ignore_ascii_case(field.name) => {
                    known.value = value;
                    &known.name
                }
                known => {
                    let name = HeaderName::from_bytes(field.name.as_bytes());
                    let name = name.map_err(|_| Fault::Malformed("a field's name"))?;
                    let read = Field { name, value };
                    match known {
                        Some(known) => *known = read,
                        None => self.0.push(read),
                    }
                    &self.0[index].name
                }
            };
            if name == header::CONTENT_LENGTH {
                let length = digits(field.value).ok_or(Fault::Malformed("Content-Length"))?;
                if declared.replace(length).is_some() {
                    return Err(Fault::Malformed("Content-Length is repeated"));
                }
            } else if name == header::TRANSFER_ENCODING {
                if old || chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::Malformed("Transfer-Encoding"));
                }
                chunked = true;
            } else if name == header::CONNECTION {
                let mut options = field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                keep &= !options.any(|option| option.eq_ignore_ascii_case(b"close"));
            }
        }
        if chunked && declared.is_some() {
            return Err(Fault::Malformed("Content-Length beside Transfer-Encoding"));
        }
        let empty = method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let framing = match (chunked, declared) {
            _ if empty => Framing::Length(0),
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::Close,
        };
        Ok(Read::Head(Head {
            status,
            version: if old { Version::HTTP_10 } else { Version::HTTP_11 },
            reason,
            framing,
            keep: keep && framing != Framing::Close,
            bytes: inbox.split_to(length).freeze(),
        }))
    }

    /// The fields of the head that was read last, put into `headers`.
    pub(super) fn give(&self, head: &Head, headers: &mut HeaderMap) -> Result<(), Fault> {
        headers.clear();
        for field in &self.0 {
            let value = HeaderValue::from_maybe_shared(head.bytes.slice(field.value.0..field.value.1));
            let value = value.map_err(|_| Fault::Malformed("a field's value"))?;
            headers.append(field.name.clone(), value);
        }
        Ok(())
    }
}

/// A length as RFC 9110 8.6 writes it.
fn digits(value: &[u8]) -> Option<u64> {
    // More fit no 64-bit integer that is signed.
    let plain = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    plain.then(|| {
        value
            .iter()
            .fold(0, |length, digit| length * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str, method: &Method) -> Result<Option<(Framing, bool)>, String> {
        let mut inbox = BytesMut::from(head);
        match Fields::default().read(&mut inbox, method) {
            Ok(Read::Head(head)) => Ok(Some((head.framing, head.keep))),
            Ok(_) => Ok(None),
            Err(fault) => Err(fault.to_string()),
        }
    }

    #[test]
    fn the_end_of_an_answer_is_told_in_one_way_or_the_answer_is_refused() {
        let body = |fields: &str| read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), &Method::GET);
        assert_eq!(body("Content-Length: 12\r\n"), Ok(Some((Framing::Length(12), true))));
        assert_eq!(
            body("transfer-encoding: Chunked\r\n"),
            Ok(Some((Framing::Chunked, true)))
        );
        assert_eq!(body(""), Ok(Some((Framing::Close, false))));
        let closing = body("content-length: 1\r\nconnection: x, Close\r\n");
        assert_eq!(closing, Ok(Some((Framing::Length(1), false))));
        for refused in [
            "content-length: 1\r\ncontent-length: 1\r\n",
            "content-length: 1\r\ncontent-length: 2\r\n",
            "content-length: 1, 1\r\n",
            "content-length: +1\r\n",
            "content-length: 0x1\r\n",
            "content-length: \r\n",
            "content-length: 99999999999999999999\r\n",
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 1\r\n",
            "transfer-encoding: gzip, chunked\r\n",
            "transfer-encoding: chunked, gzip\r\n",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: identity\r\n",
            "x: a\r\n b\r\n",
            "x : a\r\n",
            "x: a\rb\r\n",
            "x: a\0b\r\n",
            ": a\r\n",
            "x\r\n",
        ] {
            assert!(body(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn answers_without_a_body_have_none_whatever_they_declare() {
        for status in ["204 No Content", "304 Not Modified"] {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\n");
            assert_eq!(read(&head, &Method::GET), Ok(Some((Framing::Length(0), true))));
        }
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(read(head, &Method::HEAD), Ok(Some((Framing::Length(0), true))));
    }

    #[test]
    fn an_old_version_keeps_no_connection_and_knows_no_coding() {
        let head = "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n";
        assert_eq!(read(head, &Method::GET), Ok(Some((Framing::Length(5), false))));
        let head = "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert!(read(head, &Method::GET).is_err());
    }

    #[test]
    fn what_comes_before_the_answer_is_skipped_and_a_switch_of_protocols_is_refused() {
        assert_eq!(
            read("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", &Method::GET),
            Ok(None)
        );
        assert_eq!(read("HTTP/1.1 200 OK\r\nx", &Method::GET), Ok(None));
        assert!(read("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", &Method::GET).is_err());
        assert!(read("HTTP/2 200 OK\r\n\r\n", &Method::GET).is_err());
        assert!(read("220 mail.example ESMTP\r\n\r\n", &Method::GET).is_err());
        let many = "x: y\r\n".repeat(MAX_FIELDS + 1);
        assert!(read(&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), &Method::GET).is_err());
    }

    #[test]
    fn fields_are_those_of_the_head_at_hand_whatever_the_last_one_named() {
        let mut fields = Fields::default();
        for (sent, wanted) in [
            ("A: 1\r\nB: 2\r\nC:\r\n", vec![("a", "1"), ("b", "2"), ("c", "")]),
            ("a: 3\r\nc: 4\r\n", vec![("a", "3"), ("c", "4")]),
            ("a: 5\r\nA: 6\r\nd: 7\r\n", vec![("a", "5"), ("a", "6"), ("d", "7")]),
        ] {
            let mut inbox = BytesMut::from(format!("HTTP/1.1 200 Fine\r\n{sent}\r\nrest").as_str());
            let Ok(Read::Head(head)) = fields.read(&mut inbox, &Method::GET) else {
                panic!("{sent:?}");
            };
            assert_eq!(&inbox[..], b"rest");
            assert_eq!(head.reason.as_ref().map(|reason| reason.as_bytes()), Some(&b"Fine"[..]));
            let mut headers = HeaderMap::new();
            headers.insert("old", HeaderValue::from_static("old"));
            fields.give(&head, &mut headers).unwrap();
            let got: Vec<_> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                .collect();
            assert_eq!(got, wanted);
        }
    }

    fn written(fields: &[(&str, &str)], size: Option<u64>) -> Result<(String, Coding), Fault> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let authority = HeaderValue::from_static("api.example");
        let target = Target {
            base: "/base",
            authority: &authority,
        };
        let uri = http::Uri::from_static("/v1/x?a=%41");
        let mut out = Vec::new();
        let coding = write(&mut out, &target, (&Method::POST, &uri, &headers), size)?;
        Ok((String::from_utf8(out).unwrap(), coding))
    }

    #[test]
    fn a_request_is_written_with_our_own_host_and_one_framing() {
        let (head, coding) = written(&[("host", "evil"), ("x-a", "1"), ("content-length", "3")], Some(3)).unwrap();
        let whole = "POST /base/v1/x?a=%41 HTTP/1.1\r\nhost: api.example\r\nx-a: 1\r\ncontent-length: 3\r\n\r\n";
        assert_eq!((head.as_str(), coding), (whole, Coding::Length(3)));
        let (head, coding) = written(&[], Some(3)).unwrap();
        assert!(head.ends_with("\r\ncontent-length: 3\r\n\r\n") && coding == Coding::Length(3));
        let (head, coding) = written(&[("transfer-encoding", "gzip")], None).unwrap();
        assert!(head.ends_with("api.example\r\ntransfer-encoding: chunked\r\n\r\n") && coding == Coding::Chunked);
        let (head, coding) = written(&[], Some(0)).unwrap();
        assert!(!head.contains("content-length") && coding == Coding::Length(0));
        assert!(written(&[("content-length", "3")], Some(4)).is_err());
        assert!(written(&[("content-length", "3"), ("content-length", "3")], Some(3)).is_err());
        assert!(written(&[("content-length", "x")], None).is_err());
    }
}
