//! Model folders of Hugging Face: one file, or shards with an index that says which tensor is in
//! which.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::contents::MAX_TENSORS;
use super::error::{Reason, quoted, reason};

/// What a model folder may hold, the preferred first.
const MODEL_FILES: [&str; 4] = [
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
];
/// Most bytes of an index, about 200 for each tensor.
const MAX_INDEX: usize = 1 << 25;

/// The file of a folder that stands for the whole model.
pub(super) fn model_file(folder: &Path) -> Result<PathBuf, Reason> {
    let files = MODEL_FILES.iter().map(|name| folder.join(name));
    files.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        reason!("a folder with neither {} nor another model file", MODEL_FILES[..2].join(" nor "))
    })
}

/// True for a JSON object. A safetensors file may start with a brace as well, as the lowest byte
/// of a length, but then zeros follow.
pub(super) fn is_index(bytes: &[u8]) -> bool {
    let first = bytes.iter().take(64).find(|byte| !byte.is_ascii_whitespace());
    first == Some(&b'{') && bytes.get(4..8) != Some(&[0; 4])
}

/// Which tensor is in which shard.
#[derive(Debug)]
pub(super) struct Index {
    /// Names of tensors, by the file name of their shard.
    pub(super) shards: BTreeMap<String, BTreeSet<String>>,
}

impl Index {
    /// Parses an index.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        if bytes.len() > MAX_INDEX {
            return Err(reason!("an index of {} bytes, more than {MAX_INDEX}", bytes.len()));
        }
        let raw: RawIndex = serde_json::from_slice(bytes).map_err(|error| {
            // The message may quote the file.
            reason!("not an index of shards: {}", quoted(&error.to_string()))
        })?;
        let mut shards = BTreeMap::<String, BTreeSet<String>>::new();
        for (tensor, shard) in raw.weight_map.0 {
            let plain = !shard.is_empty()
                && shard != ".."
                && shard != "."
                && !shard.contains(['/', '\\', ':'])
                && !shard.contains(char::is_control);
            if !plain {
                return Err(reason!("shard {} is not a plain file name", quoted(&shard)));
            }
            if !shards.entry(shard).or_default().insert(tensor.clone()) {
                return Err(reason!("tensor {} is in the index twice", quoted(&tensor)));
            }
        }
        Ok(Index { shards })
    }
}

#[derive(Deserialize)]
struct RawIndex {
    weight_map: WeightMap,
}

/// Pairs of tensor and shard in the order of the file, duplicates included.
struct WeightMap(Vec<(String, String)>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;

        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = WeightMap;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object that gives each tensor its shard")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    if pairs.len() == MAX_TENSORS {
                        let message = format!("more than {MAX_TENSORS} tensors");
                        return Err(serde::de::Error::custom(message));
                    }
                    pairs.push(pair);
                }
                Ok(WeightMap(pairs))
            }
        }

        deserializer.deserialize_map(PairsVisitor)
    }
}
