//! Files of `torch.save` before PyTorch 1.6: five pickles, then the storages back to back.

use std::collections::HashMap;
use std::ops::Range;

use super::objects::storage;
use super::{list, state_dict};
use crate::checkpoint::bytes::Bytes;
use crate::checkpoint::contents::{Contents, Source};
use crate::checkpoint::error::{Reason, quoted, reason};
use crate::checkpoint::pickle::{Object, Pickle, Value};
use crate::checkpoint::strided::View;

/// 0x1950a86a20f9469cfc6c as a pickle writes it.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

/// True for anything that starts as a pickle.
pub(in super::super) fn matches(bytes: &[u8]) -> bool {
    matches!(bytes, [0x80, 2..=5, ..])
}

pub(in super::super) fn open(bytes: Bytes, part: Option<&str>) -> Result<Contents, Reason> {
    let mut rest = Pickles { bytes: &bytes, position: 0 };
    let magic = rest.next()?;
    if magic.root != Value::Long(&MAGIC) {
        return Err(reason!(
            "a pickle that torch.save did not write; save the state dict with torch.save"
        ));
    }
    if rest.next()?.root != Value::Int(PROTOCOL) {
        return Err(reason!("the version of the PyTorch file is not {PROTOCOL}"));
    }
    check_byte_order(&rest.next()?)?;
    let pickle = rest.next()?;
    let keys = rest.next()?;
    let found = state_dict::find(&pickle, part)?;
    let storages = locate_storages(&pickle, &keys, &bytes, rest.position)?;

    let locate = |key: &str| {
        let range: &Range<usize> = storages.get(key)?;
        Some((range.clone(), range.len() as u64))
    };
    let (tensors, places) = list(found.tensors, bytes.len(), locate)?;
    Ok(Contents {
        tensors,
        metadata: found.metadata,
        left_out: found.left_out,
        is_part: found.is_part,
        source: Box::new(Storages { bytes, places }),
    })
}

/// Pickles that follow each other.
struct Pickles<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Pickles<'a> {
    fn next(&mut self) -> Result<Pickle<'a>, Reason> {
        let (pickle, length) = Pickle::parse(&self.bytes[self.position..])?;
        self.position += length;
        Ok(pickle)
    }
}

fn check_byte_order(system: &Pickle) -> Result<(), Reason> {
    let Some(Object::Dict(entries)) = system.object(system.root) else {
        return Err(reason!("the PyTorch file does not describe the system that wrote it"));
    };
    match entries.iter().find(|(key, _)| *key == Value::Str("little_endian")) {
        Some((_, Value::Bool(true))) => Ok(()),
        _ => Err(reason!("not written on a little-endian machine")),
    }
}

/// Where each storage lies. They follow in the order of `keys`, each behind its number of
/// elements; only the references to them tell the size of an element.
fn locate_storages<'a>(
    pickle: &Pickle<'a>,
    keys: &Pickle<'a>,
    bytes: &[u8],
    mut position: usize,
) -> Result<HashMap<&'a str, Range<usize>>, Reason> {
    let mut declared = HashMap::new();
    for object in pickle.objects() {
        // Whole modules also refer to the source of their classes.
        if let Object::Persistent(id) = object
            && pickle.tuple(*id).is_some_and(|id| id.first() == Some(&Value::Str("storage")))
        {
            let storage = storage(pickle, *id)?;
            let size = (storage.elements, storage.element_size());
            if declared.insert(storage.key, size).is_some_and(|other| other != size) {
                return Err(reason!("storage {} is given two sizes", quoted(storage.key)));
            }
        }
    }
    let Some(Object::List(keys)) = keys.object(keys.root) else {
        return Err(reason!("the PyTorch file has no list of storages"));
    };
    let mut ranges = HashMap::with_capacity(keys.len());
    for key in keys {
        let Value::Str(key) = *key else {
            return Err(reason!("the key of a storage is not a string"));
        };
        let &(elements, element_size) = declared
            .get(key)
            .ok_or_else(|| reason!("storage {} is never referred to", quoted(key)))?;
        let count = bytes
            .get(position..)
            .and_then(|rest| rest.first_chunk::<8>())
            .map(|count| u64::from_le_bytes(*count));
        if count != Some(elements as u64) {
            let found = count.map_or("the end of the file".to_owned(), |count| count.to_string());
            return Err(reason!(
                "storage {} should have {elements} elements, the file says {found}",
                quoted(key)
            ));
        }
        let start = position + 8;
        let end = elements
            .checked_mul(element_size)
            .and_then(|length| start.checked_add(length))
            .filter(|&end| end <= bytes.len())
            .ok_or_else(|| {
                reason!("the file ends within storage {} of {elements} elements", quoted(key))
            })?;
        if ranges.insert(key, start..end).is_some() {
            return Err(reason!("storage {} is listed twice", quoted(key)));
        }
        position = end;
    }
    Ok(ranges)
}

struct Storages {
    bytes: Bytes,
    places: Vec<(Range<usize>, View)>,
}

impl Source for Storages {
    fn read(&self, index: usize) -> Result<Vec<u8>, Reason> {
        let (range, view) = &self.places[index];
        view.gather(&self.bytes[range.clone()])
    }
}
