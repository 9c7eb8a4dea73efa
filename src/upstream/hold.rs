//! The commit byte: which bytes of an HTTP/1.1 request may pass, and which one waits.
//!
//! A request whose last byte was never handed to the transport cannot be executed: its head is open, or its body is
//! shorter than its declared length (RFC 9112 section 8). So everything but the last byte goes out, and that byte only
//! when the caller releases it. Pure: it sees the bytes as they are about to be written and counts.
//!
//! A receiver acknowledges two small segments as soon as its application has read them, but may sit on a single one for
//! 40 ms and more (delayed acknowledgement, RFC 9293 3.8.6.3). Where the release waits for the acknowledgement the bytes
//! before the last therefore go out in two pieces.

/// One request's hold.
#[derive(Debug)]
pub(super) struct Hold {
    body: u64,
    pieces: Pieces,
    /// Bytes that passed.
    passed: u64,
    /// How much of the blank line that ends the head has been seen: 0 to 4 bytes.
    blank: u8,
    /// Bytes that may still pass before the commit byte; unknown until the head's end was seen.
    left: Option<u64>,
}

/// In how many pieces the bytes before the commit byte go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pieces {
    One,
    Two,
}

impl Hold {
    /// A hold for a request whose body has this many bytes. With an empty body the head's last byte is the one held.
    pub(super) fn new(body: u64, pieces: Pieces) -> Self {
        Self {
            body,
            pieces,
            passed: 0,
            blank: 0,
            left: None,
        }
    }

    /// How many of these next bytes may pass now. Zero, for bytes that are there, means: the commit byte is next.
    pub(super) fn allowed(&self, bytes: &[u8]) -> usize {
        let length = bytes.len();
        let head_end = match self.left {
            Some(_) => None,
            None => end_of_head(self.blank, bytes).0,
        };
        let left = match (self.left, head_end) {
            (Some(left), _) => left,
            (None, Some(end)) => (end as u64 + self.body).saturating_sub(1),
            (None, None) => length as u64,
        };
        let allowed = usize::try_from(left).map_or(length, |left| length.min(left));
        if self.pieces == Pieces::Two && self.passed == 0 && allowed > 1 {
            // The head alone first, where more than the commit byte follows it (here, or in a buffer of its own); else half
            // of what there is. Three pieces would be as bad as one: the last would wait for its acknowledgement alone.
            return match head_end {
                Some(end) if end < allowed || (end == allowed && self.body > 1) => end,
                _ => allowed / 2,
            };
        }
        allowed
    }

    /// These bytes passed: a prefix of what was asked about.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        self.passed += bytes.len() as u64;
        match &mut self.left {
            Some(left) => *left = left.saturating_sub(bytes.len() as u64),
            None => {
                let (end, blank) = end_of_head(self.blank, bytes);
                self.blank = blank;
                if let Some(end) = end {
                    let of_body = (bytes.len() - end) as u64;
                    self.left = Some(self.body.saturating_sub(1).saturating_sub(of_body));
                }
            }
        }
    }
}

/// Where the blank line that ends a head ends in these bytes, `seen` bytes of it having come before; and how much of one
/// stands at their end.
fn end_of_head(mut seen: u8, bytes: &[u8]) -> (Option<usize>, u8) {
    for (at, byte) in bytes.iter().enumerate() {
        seen = match (seen, byte) {
            (0 | 2, b'\r') | (1 | 3, b'\n') => seen + 1,
            (_, b'\r') => 1,
            _ => 0,
        };
        if seen == 4 {
            return (Some(at + 1), 4);
        }
    }
    (None, seen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes as hyper does: offers what is left, in chunks of any size, until nothing passes. Gives back the pieces.
    fn write(request: &[u8], body: u64, pieces: Pieces, chunks: &[usize]) -> Vec<usize> {
        let mut hold = Hold::new(body, pieces);
        let (mut at, mut written) = (0, Vec::new());
        let mut chunks = chunks.iter().copied().chain(std::iter::repeat(usize::MAX));
        while at < request.len() {
            let end = at
                .saturating_add(chunks.next().unwrap_or(usize::MAX))
                .min(request.len());
            let allowed = hold.allowed(&request[at..end]);
            if allowed == 0 {
                break;
            }
            hold.pass(&request[at..at + allowed]);
            at += allowed;
            written.push(allowed);
        }
        written
    }

    #[test]
    fn without_a_body_the_last_byte_of_the_head_waits() {
        let request = b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
        for pieces in [Pieces::One, Pieces::Two] {
            let passed: usize = write(request, 0, pieces, &[]).iter().sum();
            assert_eq!(passed, request.len() - 1);
        }
    }

    #[test]
    fn where_an_acknowledgement_is_waited_for_two_pieces_go_out() {
        let request = b"POST /v1/x HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(write(request, 5, Pieces::Two, &[]), [request.len() - 5, 4]);
        // A writer that offers head and body as two buffers makes no third piece of them.
        let head = request.len() - 5;
        assert_eq!(write(request, 5, Pieces::Two, &[head]), [head, 4]);
        assert_eq!(write(request, 5, Pieces::One, &[]), [request.len() - 1]);
        let short = b"POST /v1/x HTTP/1.1\r\ncontent-length: 1\r\n\r\nh";
        assert_eq!(write(short, 1, Pieces::Two, &[]).len(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn exactly_one_byte_waits_however_the_request_is_cut(
            field in "[ -~]{0,40}",
            body in proptest::collection::vec(any::<u8>(), 0..64),
            chunks in proptest::collection::vec(1usize..40, 0..64),
            two in any::<bool>(),
        ) {
            let mut request = format!("POST / HTTP/1.1\r\nx: {field}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
            request.extend_from_slice(&body);
            let pieces = if two { Pieces::Two } else { Pieces::One };
            let passed: usize = write(&request, body.len() as u64, pieces, &chunks).iter().sum();
            prop_assert_eq!(passed, request.len() - 1);
        }
    }
}
