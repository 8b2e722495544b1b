//! `.npy`: one array with a header in the syntax of a Python dict.
//!
//! The header is parsed here rather than by a library: of Python's syntax it takes one dict with
//! three known keys, while a general parser brings recursion and big numbers with it.

use crate::checkpoint::bytes::Bytes;
use crate::checkpoint::contents::{Contents, Listing, MAX_RANK, Source};
use crate::checkpoint::error::{Reason, quoted, reason};
use crate::checkpoint::strided::View;
use crate::tensor::DType;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Most bytes of magic and header together: 32 dimensions of 20 digits and the rest.
pub(super) const MAX_HEADER: usize = 1 << 10;

/// Shape and layout of an array, and where its data starts.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    pub(super) view: View,
    big_endian: bool,
    data: usize,
}

impl Header {
    /// Parses the header at the start of a file of `size` bytes, of which `bytes` has at least
    /// the first [`MAX_HEADER`].
    pub(super) fn parse(bytes: &[u8], size: u64) -> Result<Self, Reason> {
        let (length, start) = match bytes.strip_prefix(MAGIC) {
            Some([1, _, a, b, ..]) => (usize::from(u16::from_le_bytes([*a, *b])), 10),
            Some([2 | 3, _, a, b, c, d, ..]) => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 12),
            Some([version, ..]) if !(1..=3).contains(version) => {
                return Err(reason!("is of the unknown npy version {version}"));
            }
            Some(_) => return Err(reason!("ends within the npy header")),
            None => return Err(reason!("is not an npy array")),
        };
        if length > MAX_HEADER - start {
            return Err(reason!("has an npy header of {length} bytes"));
        }
        let header = bytes
            .get(start..start + length)
            .and_then(|header| std::str::from_utf8(header).ok())
            .ok_or_else(|| reason!("has an npy header that is cut off or not text"))?;
        let (view, big_endian) = Literal { rest: header }.array()?;
        let data = start + length;
        // An archive may declare a size that its header alone exceeds.
        let found =
            size.checked_sub(data as u64).ok_or_else(|| reason!("ends within the npy header"))?;
        let dense = View::dense(view.dtype, view.shape.clone(), false)?;
        dense.check(found)?;
        let bytes = view.shape.iter().product::<usize>() * view.dtype.size();
        if found != bytes as u64 {
            return Err(reason!("has data of {found} bytes, expected {bytes}"));
        }
        Ok(Header { view, big_endian, data })
    }

    /// The elements of the array that this is the header of, row-major and little-endian.
    pub(super) fn read(&self, file: &[u8]) -> Result<Vec<u8>, Reason> {
        let mut bytes = self.view.gather(file.get(self.data..).unwrap_or_default())?;
        if self.big_endian {
            bytes.chunks_exact_mut(self.view.dtype.size()).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }
}

pub(in super::super) fn matches(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// A single array becomes a tensor of the name `tensor`.
pub(in super::super) fn open(bytes: Bytes, _: Option<&str>) -> Result<Contents, Reason> {
    let header = Header::parse(&bytes, bytes.len() as u64)
        .map_err(|Reason(reason)| reason!("the array {reason}"))?;
    let mut listing = Listing::default();
    listing.push("tensor", header.view.dtype, header.view.shape.clone())?;
    let tensors = listing.finish(bytes.len())?;
    Ok(Contents {
        left_out: Vec::new(),
        is_part: false,
        tensors,
        metadata: Default::default(),
        source: Box::new(Array { bytes, header }),
    })
}

struct Array {
    bytes: Bytes,
    header: Header,
}

impl Source for Array {
    fn read(&self, _index: usize) -> Result<Vec<u8>, Reason> {
        self.header.read(&self.bytes)
    }
}

/// The rest of a header such as
/// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
struct Literal<'a> {
    rest: &'a str,
}

impl<'a> Literal<'a> {
    fn array(mut self) -> Result<(View, bool), Reason> {
        let (mut dtype, mut fortran_order, mut shape) = (None, None, None);
        self.expect('{')?;
        while !self.accept('}') {
            let key = self.string()?;
            self.expect(':')?;
            match key {
                "descr" => dtype = Some(element_type(self.string()?)?),
                "fortran_order" => fortran_order = Some(self.boolean()?),
                "shape" => shape = Some(self.tuple()?),
                other => return Err(reason!("has {} in its npy header", quoted(other))),
            }
            if !self.accept(',') {
                self.expect('}')?;
                break;
            }
        }
        match (dtype, fortran_order, shape) {
            (Some((dtype, big_endian)), Some(fortran_order), Some(shape))
                if self.rest.trim().is_empty() =>
            {
                Ok((View::dense(dtype, shape, fortran_order)?, big_endian))
            }
            _ => Err(reason!("has an incomplete npy header")),
        }
    }

    fn accept(&mut self, token: char) -> bool {
        let rest = self.rest.trim_start();
        self.rest = rest.strip_prefix(token).unwrap_or(rest);
        self.rest.len() < rest.len()
    }

    fn expect(&mut self, token: char) -> Result<(), Reason> {
        if self.accept(token) {
            return Ok(());
        }
        Err(reason!("has an npy header without {token:?} before {}", quoted(self.rest)))
    }

    fn string(&mut self) -> Result<&'a str, Reason> {
        let rest = self.rest.trim_start();
        if rest.starts_with('[') {
            return Err(reason!("is a structured array, which is not supported"));
        }
        let mut parts = rest.splitn(3, ['\'', '"']);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(""), Some(string), Some(after)) => {
                self.rest = after;
                Ok(string)
            }
            _ => Err(reason!("has an npy header without a string before {}", quoted(rest))),
        }
    }

    fn boolean(&mut self) -> Result<bool, Reason> {
        let rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(after) = rest.strip_prefix(word) {
                self.rest = after;
                return Ok(value);
            }
        }
        Err(reason!("has an npy header without a truth value before {}", quoted(rest)))
    }

    fn tuple(&mut self) -> Result<Vec<usize>, Reason> {
        let mut dims = Vec::new();
        self.expect('(')?;
        while !self.accept(')') {
            let rest = self.rest.trim_start();
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let dim = rest[..end]
                .parse()
                .map_err(|_| reason!("has a shape with no size before {}", quoted(rest)))?;
            dims.push(dim);
            // Python 2 marks its long integers.
            self.rest = rest[end..].trim_start_matches('L');
            if dims.len() > MAX_RANK {
                return Err(reason!("has more than {MAX_RANK} dimensions"));
            }
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(dims)
    }
}

/// Element type and whether it is big-endian.
fn element_type(description: &str) -> Result<(DType, bool), Reason> {
    let mut characters = description.chars();
    let order = characters.next();
    let dtype = match characters.as_str() {
        "f4" => DType::F32,
        "f8" => DType::F64,
        "f2" => DType::F16,
        "b1" => DType::Bool,
        "u1" => DType::U8,
        "i1" => DType::I8,
        "u2" => DType::U16,
        "i2" => DType::I16,
        "u4" => DType::U32,
        "i4" => DType::I32,
        "u8" => DType::U64,
        "i8" => DType::I64,
        _ => return Err(reason!("has elements of type {}, not numbers", quoted(description))),
    };
    match order {
        Some('<' | '|') => Ok((dtype, false)),
        Some('>') => Ok((dtype, true)),
        _ => Err(reason!("has elements of unknown byte order {}", quoted(description))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str, data: usize) -> Result<Header, String> {
        let mut bytes = [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes()].concat();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        Header::parse(&bytes, bytes.len() as u64).map_err(|Reason(reason)| reason)
    }

    #[test]
    fn a_declared_size_below_the_header_is_refused() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }\n";
        let mut bytes = [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes()].concat();
        bytes.extend_from_slice(header.as_bytes());
        assert!(Header::parse(&bytes, bytes.len() as u64).is_ok());
        assert!(Header::parse(&bytes, 12).is_err());
    }

    #[test]
    fn headers_in_all_their_spellings() {
        let header =
            parse("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }   \n", 48).unwrap();
        assert_eq!(header.view, View::dense(DType::F32, vec![3, 4], false).unwrap());
        let header = parse(r#"{"shape":(3L,2L),"fortran_order":True,"descr":">i2"}"#, 12).unwrap();
        assert_eq!(header.view.strides, [1, 3]);
        assert!(header.big_endian);
        let scalar = parse("{'descr': '|b1', 'fortran_order': False, 'shape': ()}", 1).unwrap();
        assert_eq!((scalar.view.dtype, scalar.view.shape), (DType::Bool, vec![]));
    }

    #[test]
    fn malformed_headers_say_what_is_wrong() {
        for (header, message) in [
            ("", "without '{'"),
            ("{}", "incomplete"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3)} 1", "incomplete"),
            ("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "not numbers"),
            ("{'descr': '=f4', 'fortran_order': False, 'shape': (3,)}", "byte order"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}", "structured"),
            ("{'descr': '<f4', 'fortran_order': 0, 'shape': (3,)}", "truth value"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "no size"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (3 4)}", "without ')'"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", "size"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}", "16 bytes"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "expected 8"),
            ("{'descr': '<f4', 'extra': 1}", "\"extra\""),
            ("{'descr", "string"),
        ] {
            let error = parse(header, 12).unwrap_err();
            assert!(error.contains(message), "{header}: {error}");
        }
    }
}
