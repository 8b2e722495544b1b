//! Accuracy against bytes: points of all methods, their table and their picture.

mod peers;

use serde::{Deserialize, Serialize};

use crate::report::{Axis, Chart, Level, Scale, Series, Unit};
pub use peers::{PeersError, read_peers};

/// By how much accuracy may fall below the original's to be in the picture.
const SHOWN_LOSS: f64 = 0.12;

/// A file of some size and what is left of the accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Name of the curve on which it lies.
    pub method: String,
    /// How the file was made, or where it comes from.
    pub settings: String,
    /// Size of the whole file.
    pub bytes: u64,
    /// Fraction of right test images.
    pub accuracy: f64,
}

/// The network that the files stand for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Original {
    /// Size of the whole file.
    pub bytes: u64,
    /// Number of parameters.
    pub parameters: u64,
    /// Fraction of right test images.
    pub accuracy: f64,
    /// Number of test images.
    pub test_images: usize,
}

/// Sizes of files for a network of so many parameters: `count` of them at equal ratios, from
/// 0.6 to 7.4 bits a parameter, as numbers of two digits.
pub fn sizes(parameters: u64, count: usize) -> Vec<u64> {
    let ends = [0.6, 7.4].map(|bits: f64| (bits / 8.0 * parameters as f64).max(1.0).ln());
    let steps = count.saturating_sub(1).max(1) as f64;
    let mut sizes: Vec<u64> = (0..count)
        .map(|i| {
            let size = (ends[0] + (ends[1] - ends[0]) * i as f64 / steps).exp();
            let digit = 10f64.powf(size.log10().floor() - 1.0).max(1.0);
            ((size / digit).round() * digit) as u64
        })
        .collect();
    sizes.dedup();
    sizes
}

/// The curves in the order in which their methods first appear, each with its points by size.
pub fn by_method(points: &[Point]) -> Vec<(&str, Vec<&Point>)> {
    let mut curves: Vec<(&str, Vec<&Point>)> = Vec::new();
    for point in points {
        match curves.iter_mut().find(|(method, _)| *method == point.method) {
            Some((_, points)) => points.push(point),
            None => curves.push((&point.method, vec![point])),
        }
    }
    for (_, points) in &mut curves {
        points.sort_by_key(|point| point.bytes);
    }
    curves
}

/// Of each method the smallest file with at least that accuracy; methods without such are left out.
pub fn smallest(points: &[Point], accuracy: f64) -> Vec<&Point> {
    let curves = by_method(points).into_iter();
    let enough = |points: Vec<&'_ Point>| -> Option<usize> {
        points.iter().position(|point| point.accuracy >= accuracy)
    };
    let found = curves.filter_map(|(_, points)| enough(points.clone()).map(|index| points[index]));
    let mut found: Vec<&Point> = found.collect();
    found.sort_by_key(|point| point.bytes);
    found
}

/// The picture. Points far below the original's accuracy are left out, unless there are no others.
pub fn chart(original: &Original, points: &[Point]) -> Chart {
    let series = by_method(points).into_iter().map(|(method, points)| Series {
        name: method.to_owned(),
        points: points.iter().map(|point| (point.bytes as f64, point.accuracy)).collect(),
    });
    let floor = original.accuracy - SHOWN_LOSS;
    let far = points.iter().filter(|point| point.accuracy < floor).count();
    let floor = (0 < far && far < points.len()).then_some(floor);
    let left_out = floor.map_or(String::new(), |floor| {
        let plural = if far == 1 { "" } else { "s" };
        format!(" ({far} point{plural} below {:.1} % left out)", 100.0 * floor)
    });
    Chart {
        name: "Accuracy against the size of the whole file".into(),
        x: Axis {
            label: "size of the whole file".into(),
            scale: Scale::Logarithmic,
            unit: Unit::Bytes,
        },
        y: Axis {
            label: format!("test accuracy{left_out}"),
            scale: Scale::Linear,
            unit: Unit::Percent,
        },
        series: series.collect(),
        levels: vec![Level {
            name: format!("original, {:.2} %", 100.0 * original.accuracy),
            y: original.accuracy,
        }],
        floor,
        ..Chart::default()
    }
}

/// The points as CSV: method, settings, bytes, accuracy; what [`read_peers`] reads.
pub fn to_csv(points: &[Point]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for point in points {
        writer.serialize(point).expect("memory can be written");
    }
    let bytes = writer.into_inner().expect("memory can be written");
    String::from_utf8(bytes).expect("text was written")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(method: &str, bytes: u64, accuracy: f64) -> Point {
        Point { method: method.into(), settings: "a, \"b\"".into(), bytes, accuracy }
    }

    fn original() -> Original {
        Original { bytes: 1_000_000, parameters: 269_722, accuracy: 0.9173, test_images: 10_000 }
    }

    #[test]
    fn sizes_follow_the_network() {
        assert_eq!(sizes(269_722, 5), [20_000, 38_000, 71_000, 130_000, 250_000]);
        assert_eq!(sizes(269_722, 1), [20_000]);
        assert_eq!(sizes(0, 3), [1]);
        assert!(sizes(11_000_000, 9).is_sorted());
    }

    #[test]
    fn curves_go_by_size_and_the_smallest_is_found() {
        let points = [
            point("b", 300, 0.9),
            point("a", 200, 0.91),
            point("b", 100, 0.92),
            point("c", 9, 0.1),
        ];
        let curves = by_method(&points);
        let sizes = |i: usize| curves[i].1.iter().map(|p| p.bytes).collect::<Vec<_>>();
        assert_eq!((curves[0].0, sizes(0)), ("b", vec![100, 300]));
        assert_eq!((curves[1].0, sizes(1)), ("a", vec![200]));
        let found: Vec<u64> = smallest(&points, 0.905).iter().map(|p| p.bytes).collect();
        assert_eq!(found, [100, 200]);
    }

    #[test]
    fn what_is_far_below_is_left_out_and_said() {
        let near = [point("a", 100, 0.9), point("a", 50, 0.85)];
        assert_eq!(chart(&original(), &near).floor, None);
        let far = [point("a", 100, 0.9), point("a", 50, 0.2)];
        let picture = chart(&original(), &far);
        assert!(picture.floor.is_some());
        assert_eq!(picture.y.label, "test accuracy (1 point below 79.7 % left out)");
        assert_eq!(chart(&original(), &far[1..]).floor, None, "nothing would be left");
    }

    #[test]
    fn what_is_written_can_be_merged() {
        let points = [point("quantize", 100, 0.9), point("low-rank, int8", 50, 0.85)];
        assert_eq!(read_peers(to_csv(&points).as_bytes()).unwrap(), points);
    }
}
