//! Signed integers as bit planes, the most significant first: every plane refines what the planes
//! before it say.

use std::ops::Range;

use super::bit_length;
use super::mixing::Mixture;
use super::range::{Coder, Decoder, Encoder};
use super::statistics::{FINE_LEVELS, LEVELS, fine_level, level};

/// Planes that integers can have: their magnitudes are below 2^15.
pub(crate) const MAX_PLANES: usize = 15;

/// Neighbours on each side whose magnitudes are averaged.
const REACH: usize = 16;

/// Known bits of a magnitude from which on the next bit is taken to be even.
const REFINED_BITS: u32 = 4;

/// Nodes of the decisions about a next bit: the known bits, at most three of which count.
const NODES: usize = 8;

/// Bytes from which on an encoder begins a new section with the next plane: so that what a section
/// costs by itself, about ten bytes, is little.
const SECTION_BYTES: usize = 256;

/// Consecutive planes that are coded together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PlaneSection {
    /// How many.
    pub planes: usize,
    /// The output of the range coder.
    pub bytes: Vec<u8>,
}

/// Encodes integers of magnitude below 2^15, as many in each segment as `segments` says.
pub(crate) fn encode(segments: &[usize], integers: &[i32]) -> Vec<PlaneSection> {
    let largest = integers.iter().map(|q| q.unsigned_abs()).max();
    // All zeros are one plane too.
    let planes = largest.map_or(0, |largest| bit_length(largest).max(1) as usize);
    let mut models = Models::new();
    let mut known = vec![0; integers.len()];
    let mut sections = Vec::new();
    let (mut encoder, mut begun) = (Encoder::new(), planes);
    for plane in (0..planes).rev() {
        models.code(&mut encoder, plane, segments, Some(integers), &mut known);
        if plane == 0 || encoder.byte_count() >= SECTION_BYTES {
            let bytes = std::mem::replace(&mut encoder, Encoder::new()).finish();
            sections.push(PlaneSection { planes: begun - plane, bytes });
            begun = plane;
        }
    }
    sections
}

/// Decodes integers section by section.
pub(crate) struct PlaneDecoder<'a> {
    models: Models,
    segments: &'a [usize],
    /// Planes that are still to be decoded.
    missing: usize,
    /// The integers without these, shifted to the right.
    known: Vec<i32>,
}

impl<'a> PlaneDecoder<'a> {
    /// For integers of `planes` planes, as many in each segment as `segments` says.
    pub(crate) fn new(segments: &'a [usize], planes: usize) -> Self {
        let known = vec![0; segments.iter().sum()];
        PlaneDecoder { models: Models::new(), segments, missing: planes, known }
    }

    /// Decodes the next `planes` planes, with which the bytes of the next section begin; false if no
    /// encoder writes such bytes.
    pub(crate) fn decode(&mut self, bytes: &[u8], planes: usize) -> bool {
        let mut decoder = Decoder::new(bytes);
        for _ in 0..planes {
            self.missing -= 1;
            self.models.code(&mut decoder, self.missing, self.segments, None, &mut self.known);
        }
        !decoder.invalid()
    }

    /// The integers: exactly if all planes were decoded, otherwise each but the zeros in the middle
    /// of those that it can be.
    pub(crate) fn finish(mut self) -> Vec<i32> {
        if let Some(shift) = self.missing.checked_sub(1) {
            self.known.iter_mut().for_each(|known| *known = (2 * *known + known.signum()) << shift);
        }
        self.known
    }
}

/// The models of all planes: what carries over from one to the next.
struct Models {
    significance: Mixture<3>,
    refinement: Mixture<2>,
}

impl Models {
    fn new() -> Self {
        Models {
            significance: Mixture::new(1, [MAX_PLANES, FINE_LEVELS, LEVELS]),
            refinement: Mixture::new(NODES, [1, LEVELS]),
        }
    }

    /// Codes the plane of the bits of value 2^`plane`. `known` holds the integers without the bits
    /// of this and lower planes, rounded to zero and shifted to the right by one bit more than
    /// `plane`; afterwards without those of lower planes, shifted by `plane`. An encoder has the
    /// integers themselves in `exact`.
    fn code(
        &mut self,
        coder: &mut impl Coder,
        plane: usize,
        segments: &[usize],
        exact: Option<&[i32]>,
        known: &mut [i32],
    ) {
        let mut start = 0;
        for &length in segments {
            let own = start..start + length;
            let exact = exact.map(|exact| &exact[own.clone()]);
            self.segment(coder, plane, exact, &mut known[own]);
            start += length;
        }
    }

    fn segment(
        &mut self,
        coder: &mut impl Coder,
        plane: usize,
        exact: Option<&[i32]>,
        known: &mut [i32],
    ) {
        let mut activity = Activity::new(known);
        for index in 0..known.len() {
            let (mean, near) = activity.look(known, index);
            let exact = exact.map_or(0, |exact| exact[index]);
            let bit = exact.unsigned_abs() >> plane & 1 == 1;
            let before = known[index];
            let magnitude = before.unsigned_abs();
            known[index] = if magnitude == 0 {
                let contexts = [plane, fine_level(mean, 0), level(near, 0)];
                let contexts = self.significance.contexts(&contexts);
                match self.significance.code(coder, bit, 0, &contexts) {
                    false => 0,
                    true if coder.uniform(u32::from(exact < 0), 1) == 1 => -1,
                    true => 1,
                }
            } else {
                let bit = self.next_bit(coder, bit, magnitude, mean);
                2 * before + before.signum() * bit as i32
            };
            activity.advance(known, index);
        }
    }

    fn next_bit(&mut self, coder: &mut impl Coder, bit: bool, magnitude: u32, mean: u32) -> u32 {
        let length = bit_length(magnitude);
        if length >= REFINED_BITS {
            return coder.uniform(u32::from(bit), 1);
        }
        let contexts = [0, level(mean, 0)];
        let contexts = self.refinement.contexts(&contexts);
        u32::from(self.refinement.code(coder, bit, magnitude as usize, &contexts))
    }
}

/// Averages of what is known of the magnitudes of a segment, in sixteenths of the plane's bit.
struct Activity {
    /// Sum over all coded integers of this plane, and over all that are still to be coded.
    coded: u64,
    uncoded: u64,
    /// The same of those within reach of the one at hand, without itself.
    near_coded: u64,
    near_uncoded: u64,
}

/// The expected magnitude of an integer of which `known` is known, in sixteenths.
fn expected(known: i32) -> u64 {
    let magnitude = u64::from(known.unsigned_abs());
    16 * magnitude + if magnitude > 0 { 8 } else { 0 }
}

fn sum(known: &[i32], range: Range<usize>) -> u64 {
    known[range].iter().map(|&k| expected(k)).sum()
}

impl Activity {
    fn new(known: &[i32]) -> Self {
        let uncoded = sum(known, 0..known.len());
        let near_uncoded = sum(known, 0..known.len().min(REACH));
        Activity { coded: 0, uncoded, near_coded: 0, near_uncoded }
    }

    /// Averages over the whole segment and over the neighbours of the integer at `index`, which is
    /// from here on neither coded nor uncoded.
    fn look(&mut self, known: &[i32], index: usize) -> (u32, u32) {
        let own = expected(known[index]);
        self.uncoded -= own;
        self.near_uncoded -= own;
        if let Some(&entering) = known.get(index + REACH) {
            self.near_uncoded += expected(entering);
        }
        let others = known.len() as u64 - 1;
        let near = index.min(REACH) + (known.len() - 1 - index).min(REACH);
        let mean = (self.coded + 2 * self.uncoded) / others.max(1);
        let near = (self.near_coded + 2 * self.near_uncoded) / (near as u64).max(1);
        (mean as u32, near as u32)
    }

    /// Counts the integer at `index`, which has been coded.
    fn advance(&mut self, known: &[i32], index: usize) {
        let own = expected(known[index]);
        self.coded += own;
        self.near_coded += own;
        if let Some(leaving) = index.checked_sub(REACH) {
            self.near_coded -= expected(known[leaving]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Key, Stream};

    /// Samples of a distribution with variance 1 or 2, as integers below 2^(bits - 1).
    fn sample(laplacian: bool, count: usize, bits: u32) -> Vec<i32> {
        let mut stream = Stream::new(Key::from_seed(u64::from(bits)), laplacian.into());
        let mut next = || match laplacian {
            false => f64::from(stream.normal()),
            true => {
                let magnitude = -(1.0 - f64::from(stream.uniform())).ln();
                if stream.next_u32() & 1 == 1 { -magnitude } else { magnitude }
            }
        };
        let values: Vec<f64> = (0..count).map(|_| next()).collect();
        let largest = values.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        let scale = f64::from((1 << (bits - 1)) - 1) / largest;
        values.iter().map(|x| (x * scale).round() as i32).collect()
    }

    /// Bytes of an ideal code: that of the frequencies in the sample, or, where they are too few
    /// to know them, that of a normal distribution.
    fn ideal_bytes(integers: &[i32], bits: u32) -> f64 {
        let count = integers.len() as f64;
        if bits > 8 {
            let variance = integers.iter().map(|&q| f64::from(q).powi(2)).sum::<f64>() / count;
            let entropy = 0.5 * (2.0 * std::f64::consts::PI * 1f64.exp() * variance).log2();
            return count * entropy / 8.0;
        }
        let mut counts = std::collections::BTreeMap::new();
        integers.iter().for_each(|&q| *counts.entry(q).or_insert(0.0) += 1.0);
        counts.values().map(|n: &f64| n * (count / n).log2()).sum::<f64>() / 8.0
    }

    fn total(sections: &[PlaneSection]) -> usize {
        sections.iter().map(|section| section.bytes.len()).sum()
    }

    #[test]
    fn sizes_are_close_to_the_entropy() {
        for laplacian in [false, true] {
            for bits in [4, 5, 6, 8, 16] {
                let integers = sample(laplacian, 10_000, bits);
                let found = total(&encode(&[10_000], &integers)) as f64;
                // A Laplacian has less entropy than a normal distribution of its variance.
                let ideal = ideal_bytes(&integers, bits);
                eprintln!("{bits} bits, Laplacian {laplacian}: {found} of {ideal:.0} bytes");
                assert!(found <= 1.01 * ideal + 60.0, "{found} for {ideal}");
            }
        }
    }

    #[test]
    fn scales_that_differ_are_found() {
        let mut integers = Vec::new();
        let mut ideal = 0.0;
        for bits in [3, 8, 5, 7] {
            let own = sample(false, 2_500, bits);
            ideal += ideal_bytes(&own, bits);
            integers.extend(own);
        }
        for segments in [&[2_500; 4][..], &[10_000]] {
            let found = total(&encode(segments, &integers)) as f64;
            eprintln!("{} segments: {found} of {ideal:.0} bytes", segments.len());
            assert!(found <= 1.05 * ideal, "{found} for {ideal}");
        }
    }

    #[test]
    fn every_number_of_planes_comes_back() {
        let integers = sample(true, 700, 12);
        let segments = [1, 500, 199];
        let sections = encode(&segments, &integers);
        let planes: usize = sections.iter().map(|section| section.planes).sum();
        assert_eq!(planes, 11);
        for decoded in 0..=planes {
            let mut decoder = PlaneDecoder::new(&segments, planes);
            let mut left = decoded;
            for section in &sections {
                let some = left.min(section.planes);
                assert!(decoder.decode(&section.bytes, some));
                left -= some;
            }
            let missing = (planes - decoded) as u32;
            for (found, &q) in decoder.finish().into_iter().zip(&integers) {
                let magnitude = q.unsigned_abs() >> missing << missing;
                let half = if magnitude > 0 { 1 << missing >> 1 } else { 0 };
                assert_eq!(found, q.signum() * (magnitude as i32 + half));
            }
        }
    }

    #[test]
    fn nothing_and_zeros_are_coded() {
        assert_eq!(encode(&[], &[]), []);
        let zeros = encode(&[3], &[0; 3]);
        assert_eq!((zeros.len(), zeros[0].planes), (1, 1));
    }
}
