//! What integers cost in a file.

use std::collections::BTreeMap;

use weightspace_core::container::{Coding, Header, Quantized, encode};

use super::RoundedPart;

/// Bits of the integers of all parts, by name, as the coder of files writes them; without what they have around them.
///
/// # Panics
/// If a part has no integers, or more or fewer than its shape.
pub fn bits(parts: &[RoundedPart], integers: BTreeMap<String, Vec<i32>>) -> f64 {
    let zeros = |(name, values): (&String, &Vec<i32>)| (name.clone(), vec![0; values.len()]);
    let nothing = file_bytes(parts, integers.iter().map(zeros).collect());
    8.0 * (file_bytes(parts, integers) - nothing)
}

fn file_bytes(parts: &[RoundedPart], mut integers: BTreeMap<String, Vec<i32>>) -> f64 {
    let codings = parts.iter().map(|part| {
        let values = integers.remove(&part.name).unwrap_or_default();
        let shape = part.shape.clone();
        let quantized = Quantized { shape, scale: 1.0, channel_exponents: None, values };
        (part.name.clone(), Coding::Quantized(quantized))
    });
    let codings: Vec<_> = codings.collect();
    encode(&Header::default(), &codings).expect("integers of their shapes").len() as f64
}
