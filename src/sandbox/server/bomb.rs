//! Compressed bodies that unpack to far more than they are.
//!
//! One deflate block with the fixed codes of RFC 1951 3.2.6 is enough: a zero, then copies of 258 zeros, 13 bits each.

/// Bytes of one copy, the longest there is.
const COPY: u64 = 258;

/// Bits of a deflate stream: the first goes into the lowest place of a byte.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    /// Codes are written from their highest bit, everything else from the lowest.
    fn code(&mut self, code: u32, length: u32) {
        for place in (0..length).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(code >> place & 1 == 1) << (self.used % 8);
            }
            self.used += 1;
        }
    }
}

/// A gzip stream of `length` zeros, rounded up to whole copies.
pub(super) fn zeros(length: u64) -> Vec<u8> {
    let copies = length.div_ceil(COPY);
    let mut bits = Bits::default();
    // The last block (1), with fixed codes (01, lowest bit first).
    bits.code(0b110, 3);
    bits.code(0b0011_0000, 8);
    for _ in 0..copies {
        // Symbol 285, a length of 258 without more bits; distance 1.
        bits.code(0b1100_0101, 8);
        bits.code(0, 5);
    }
    bits.code(0, 7);
    let total = copies * COPY + 1;
    let mut stream = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    stream.append(&mut bits.bytes);
    stream.extend(crc_of_zeros(total).to_le_bytes());
    stream.extend(u32::try_from(total % (1 << 32)).unwrap_or_default().to_le_bytes());
    stream
}

/// CRC-32 (RFC 1952 8) of so many zeros. What a zero does to the register is linear over its bits, so that many of them
/// are a power of one matrix.
fn crc_of_zeros(count: u64) -> u32 {
    let mut matrix: [u32; 32] = std::array::from_fn(|place| {
        (0..8).fold(1 << place, |value: u32, _| match value & 1 {
            1 => 0xedb8_8320 ^ value >> 1,
            _ => value >> 1,
        })
    });
    let times = |matrix: &[u32; 32], value: u32| {
        let rows = matrix.iter().enumerate().filter(|(place, _)| value >> place & 1 == 1);
        rows.fold(0, |sum, (_, row)| sum ^ row)
    };
    let (mut crc, mut left) = (u32::MAX, count);
    while left > 0 {
        if left & 1 == 1 {
            crc = times(&matrix, crc);
        }
        matrix = matrix.map(|row| times(&matrix, row));
        left >>= 1;
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_stream_is_what_gzip_writes_for_it() {
        // `head -c 259 /dev/zero`, checked with gzip -t.
        let stream = zeros(258);
        assert_eq!(stream.len(), 10 + 4 + 8);
        assert_eq!(stream.get(18..), Some(&259_u32.to_le_bytes()[..]));
        assert_eq!(crc_of_zeros(259), 0xc276_fc68);
        assert!(zeros(100 << 20).len() < 700 << 10);
    }
}
