//! What a place is the place of.

use serde_json::{Value, json};

use super::group::Group;
use super::images::ZooImages;
use crate::zoo::ZooDescription;

/// By which the work of a zoo, or of a part of one, is recognised.
pub fn of(description: &ZooDescription, images: &ZooImages, groups: &[Group]) -> Value {
    let positions: Vec<&[usize]> = groups.iter().map(|group| &group.positions[..]).collect();
    json!({
        "zoo": description.to_toml(),
        "images": images.counts(),
        "data_sha256": images.sha256,
        "groups": positions,
    })
}
