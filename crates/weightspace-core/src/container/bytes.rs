//! Reading and writing of bytes and LEB128 integers.

use super::error::{Reason, refuse};

/// Appends an unsigned LEB128 integer: seven bits per byte, lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the length of a string and its UTF-8 bytes.
pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// The part of a file that is still to be read.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `count` bytes; `what` they are is said when they are missing.
    pub(super) fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], Reason> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return refuse!("{what} needs {count} bytes, {} are left", self.rest.len());
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Reason> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub(super) fn byte(&mut self, what: &str) -> Result<u8, Reason> {
        Ok(self.array::<1>(what)?[0])
    }

    /// An unsigned LEB128 integer of at most 64 bits in its shortest form.
    pub(super) fn varint(&mut self, what: &str) -> Result<u64, Reason> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                if byte == 0 && shift > 0 {
                    return refuse!("{what} is an integer that is not in its shortest form");
                }
                return Ok(value);
            }
        }
        refuse!("{what} is an integer of more than 64 bits")
    }

    /// An integer that must not exceed `limit`.
    pub(super) fn varint_up_to(&mut self, limit: u64, what: &str) -> Result<usize, Reason> {
        let value = self.varint(what)?;
        match usize::try_from(value) {
            Ok(small) if value <= limit => Ok(small),
            _ => refuse!("{what} is {value}, the limit is {limit}"),
        }
    }

    /// A length and that many bytes of UTF-8.
    pub(super) fn string(&mut self, what: &str) -> Result<&'a str, Reason> {
        let length = self.varint_up_to(self.rest.len() as u64, what)?;
        match std::str::from_utf8(self.take(length, what)?) {
            Ok(text) => Ok(text),
            Err(_) => refuse!("{what} is not UTF-8"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_in_their_shortest_form() {
        for value in [0, 1, 127, 128, 300, (1 << 56) - 1, 1 << 63, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(Cursor::new(&bytes).varint("x").unwrap(), value);
        }
        let refused: [&[u8]; 4] = [&[], &[0x80], &[0x80, 0], &[0xff; 11]];
        for bytes in refused {
            assert!(Cursor::new(bytes).varint("x").is_err(), "{bytes:x?}");
        }
        let mut too_long = vec![0xff; 9];
        too_long.push(2);
        assert!(Cursor::new(&too_long).varint("x").is_err());
    }
}
