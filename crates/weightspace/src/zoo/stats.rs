//! What can be said about a zoo in numbers and pictures.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use super::ZooError;
use super::import::Progress;
use super::index::{AXES, axis_value};
use super::metrics::EpochMetrics;
use super::population::{Model, Population};
use crate::report::{Axis, Chart, Series, Unit};

/// Values of an axis beyond which it is not drawn.
const MOST_VALUES: usize = 8;

/// Bins of a distribution, and of all in one picture.
const BINS: Range<f64> = 5.0..24.0;
const MOST_BINS: f64 = 96.0;

/// One of the metrics.
type Metric = fn(&EpochMetrics) -> f32;

/// One of the numbers of a distribution.
type Quantile = fn(&Distribution) -> f64;

/// Which accuracy is looked at, the first that is known: name, and how it is read.
const ACCURACIES: [(&str, Metric); 3] = [
    ("test", |metrics| metrics.test_accuracy),
    ("validation", |metrics| metrics.validation_accuracy),
    ("train", |metrics| metrics.train_accuracy),
];

/// A zoo in numbers. The end of a model is its last epoch with weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Number of models.
    pub models: usize,
    /// Number of models whose weights are finite at their first and last epochs.
    pub finite: usize,
    /// Epochs of which any model has weights.
    pub epochs: Vec<u32>,
    /// Elements of all tensors of a model, if it is the same number for all.
    pub parameters: Option<usize>,
    /// Which accuracy is meant in all that follows: `test`, `validation` or `train`; what is known.
    pub accuracy_of: &'static str,
    /// Accuracy at the end.
    pub accuracy: Option<Distribution>,
    /// Training accuracy above test accuracy, at the end.
    pub generalisation_gap: Option<Distribution>,
    /// Euclidean norm of all weights of a model at its first epoch.
    pub first_norm: Option<Distribution>,
    /// The same at the end.
    pub last_norm: Option<Distribution>,
    /// Accuracy at the end, for every value of every axis on which models differ (but the seed).
    pub axes: Vec<AxisSummary>,
}

/// An axis on which models differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AxisSummary {
    /// Its name, as in the index.
    pub axis: &'static str,
    /// Its values, and how the models did that have it.
    pub values: Vec<(String, Option<Distribution>)>,
}

/// A number of finite values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Distribution {
    /// How many.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, of the whole population.
    pub deviation: f64,
    /// The least.
    pub minimum: f64,
    /// A tenth is below it.
    pub lower: f64,
    /// A half is below it.
    pub median: f64,
    /// A tenth is above it.
    pub upper: f64,
    /// The greatest.
    pub maximum: f64,
}

impl Distribution {
    /// The distribution of the finite ones of these values; nothing if there is none. Percentiles are interpolated
    /// between neighbours.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_unstable_by(f64::total_cmp);
        let (&minimum, &maximum) = (values.first()?, values.last()?);
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let variance =
            values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64;
        let quantile = |share: f64| {
            let place = share * (count - 1) as f64;
            let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
            below + place.fract() * (above - below)
        };
        let [lower, median, upper] = [0.1, 0.5, 0.9].map(quantile);
        Some(Distribution {
            count,
            mean,
            deviation: variance.sqrt(),
            minimum,
            lower,
            median,
            upper,
            maximum,
        })
    }
}

/// Everything that is kept of a model for numbers and pictures.
struct Sketch {
    metrics: Vec<EpochMetrics>,
    /// Values on the axes but the seed, in their order.
    values: Vec<Option<String>>,
    norms: [f64; 2],
    parameters: usize,
}

/// A zoo of which the weights are forgotten.
pub struct Stats {
    sketches: Vec<Sketch>,
    accuracy: (&'static str, Metric),
}

impl Stats {
    /// Looks at all models: their metrics, and their weights at the first and the last epoch, row by row.
    ///
    /// # Errors
    /// If a model's files are damaged.
    pub fn collect(population: &Population, progress: Progress<'_>) -> Result<Self, ZooError> {
        let mut sketches = Vec::with_capacity(population.len());
        for index in 0..population.len() {
            let model = population.model(index)?;
            sketches.push(Sketch::new(population, index, model)?);
            progress("models", index + 1, population.len());
        }
        let known = |of: Metric| {
            let all = |sketch: &Sketch| sketch.metrics.iter().any(|metrics| !of(metrics).is_nan());
            sketches.iter().any(all)
        };
        let accuracy = ACCURACIES.into_iter().find(|(_, of)| known(*of));
        Ok(Stats { accuracy: accuracy.unwrap_or(ACCURACIES[0]), sketches })
    }

    /// The zoo in numbers.
    pub fn summary(&self) -> Summary {
        let sketches = &self.sketches;
        let finite = |sketch: &&Sketch| sketch.norms.iter().all(|norm| norm.is_finite());
        let parameters = sketches.first().map(|first| first.parameters);
        let norm = |which: usize| Distribution::of(sketches.iter().map(|s| s.norms[which]));
        let at = |axis: usize, value: String| {
            let having = sketches.iter().filter(|s| s.values[axis].as_ref() == Some(&value));
            let ends = Distribution::of(having.map(|sketch| sketch.end(self.accuracy.1)));
            (value, ends)
        };
        let axis = |(axis, values): (usize, Vec<String>)| AxisSummary {
            axis: AXES[axis].0,
            values: values.into_iter().map(|value| at(axis, value)).collect(),
        };
        Summary {
            models: sketches.len(),
            finite: sketches.iter().filter(finite).count(),
            epochs: self.epochs(),
            parameters: parameters.filter(|&n| sketches.iter().all(|s| s.parameters == n)),
            accuracy_of: self.accuracy.0,
            accuracy: Distribution::of(sketches.iter().map(|s| s.end(self.accuracy.1))),
            generalisation_gap: Distribution::of(sketches.iter().map(Sketch::gap)),
            first_norm: norm(0),
            last_norm: norm(1),
            axes: self.axes().into_iter().map(axis).collect(),
        }
    }

    /// The pictures that there is something to show in, with names for their files.
    pub fn charts(&self) -> Vec<(String, Chart)> {
        let mut charts = vec![("accuracy".to_owned(), self.accuracy_over_epochs())];
        for (axis, values) in self.axes() {
            if values.len() <= MOST_VALUES {
                let name = format!("accuracy-by-{}", AXES[axis].0.replace('_', "-"));
                charts.push((name, self.accuracy_by(axis, &values)));
            }
        }
        let ends = ACCURACIES.map(|(name, of)| {
            (name, self.sketches.iter().map(|sketch| sketch.end(of)).collect::<Vec<_>>())
        });
        let name = "Distribution of the accuracy at the end";
        charts.push((
            "accuracy-distribution".into(),
            distribution(name, "accuracy", Unit::Percent, &ends),
        ));
        let gaps = [("train - test", self.sketches.iter().map(Sketch::gap).collect::<Vec<_>>())];
        let name = "Distribution of the generalisation gap at the end";
        charts.push((
            "gap-distribution".into(),
            distribution(name, "generalisation gap", Unit::Percent, &gaps),
        ));
        let norms = [("first epoch", 0), ("last epoch", 1)].map(|(name, which)| {
            (name, self.sketches.iter().map(|sketch| sketch.norms[which]).collect::<Vec<_>>())
        });
        let name = "Distribution of the norm of all weights";
        charts.push(("norm-distribution".into(), distribution(name, "norm", Unit::Number, &norms)));
        charts.retain(|(_, chart)| chart.series.iter().any(|series| !series.points.is_empty()));
        charts
    }

    fn epochs(&self) -> Vec<u32> {
        let all = self.sketches.iter().flat_map(|sketch| &sketch.metrics);
        let mut epochs: Vec<u32> = all.map(|metrics| metrics.epoch).collect();
        epochs.sort_unstable();
        epochs.dedup();
        epochs
    }

    /// Axes on which models differ, and their values in order.
    fn axes(&self) -> Vec<(usize, Vec<String>)> {
        let values = |axis: usize| {
            let all = self.sketches.iter().filter_map(|sketch| sketch.values[axis].clone());
            let mut values: Vec<String> = all.collect();
            values.sort_unstable_by(|a, b| by_size(a, b));
            values.dedup();
            values
        };
        let axes = (0..AXES.len() - 1).map(|axis| (axis, values(axis)));
        axes.filter(|(_, values)| values.len() > 1).collect()
    }

    /// By epoch, the accuracies of all models.
    fn accuracies<'a>(
        &'a self,
        models: impl Iterator<Item = &'a Sketch>,
    ) -> BTreeMap<u32, Option<Distribution>> {
        let mut by_epoch: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
        for metrics in models.flat_map(|sketch| &sketch.metrics) {
            by_epoch.entry(metrics.epoch).or_default().push((self.accuracy.1)(metrics).into());
        }
        by_epoch.into_iter().map(|(epoch, values)| (epoch, Distribution::of(values))).collect()
    }

    fn accuracy_over_epochs(&self) -> Chart {
        let by_epoch = self.accuracies(self.sketches.iter());
        let curves: [(&str, Quantile); 5] = [
            ("best", |d| d.maximum),
            ("upper tenth", |d| d.upper),
            ("median", |d| d.median),
            ("lower tenth", |d| d.lower),
            ("worst", |d| d.minimum),
        ];
        let series = |(name, of): (&str, Quantile)| curve(name, &by_epoch, of);
        self.over_epochs("Accuracy over epochs", curves.map(series).into())
    }

    fn accuracy_by(&self, axis: usize, values: &[String]) -> Chart {
        let series = |value: &String| {
            let having = self.sketches.iter().filter(|s| s.values[axis].as_ref() == Some(value));
            curve(value, &self.accuracies(having), |d| d.median)
        };
        let name = format!("Median accuracy over epochs, by {}", AXES[axis].0.replace('_', " "));
        self.over_epochs(&name, values.iter().map(series).collect())
    }

    fn over_epochs(&self, name: &str, series: Vec<Series>) -> Chart {
        let label = format!("{} accuracy", self.accuracy.0);
        Chart {
            name: name.to_owned(),
            x: Axis { label: "epoch".into(), ..Axis::default() },
            y: Axis { label, unit: Unit::Percent, ..Axis::default() },
            series,
            ..Chart::default()
        }
    }
}

impl Sketch {
    fn new(population: &Population, index: usize, model: Model) -> Result<Self, ZooError> {
        let mut sketch = Sketch {
            values: AXES[..AXES.len() - 1]
                .iter()
                .map(|(axis, _)| axis_value(&model.params, axis))
                .collect(),
            metrics: model.metrics,
            norms: [f64::NAN; 2],
            parameters: 0,
        };
        for (norm, epoch) in
            sketch.norms.iter_mut().zip([model.epochs.first(), model.epochs.last()])
        {
            let Some(&epoch) = epoch else { continue };
            let row = population.row(index, epoch)?;
            *norm = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            sketch.parameters = row.len();
        }
        Ok(sketch)
    }

    /// A metric at the end; NaN where unknown.
    fn end(&self, of: Metric) -> f64 {
        self.metrics.last().map_or(f64::NAN, |metrics| of(metrics).into())
    }

    fn gap(&self) -> f64 {
        self.end(EpochMetrics::generalisation_gap)
    }
}

fn curve(
    name: &str,
    by_epoch: &BTreeMap<u32, Option<Distribution>>,
    of: impl Fn(&Distribution) -> f64,
) -> Series {
    let known = by_epoch.iter().filter_map(|(&epoch, d)| Some((epoch.into(), of(d.as_ref()?))));
    Series { name: name.to_owned(), points: known.collect() }
}

/// Shares of the models in bins of equal width, as lines through the bins' centres that end at the edges of the
/// outer bins; values that are not finite are left out.
fn distribution(name: &str, label: &str, unit: Unit, all: &[(&str, Vec<f64>)]) -> Chart {
    let known = all
        .iter()
        .filter_map(|(name, values)| Some((*name, values, Distribution::of(values.clone())?)));
    let known: Vec<(&str, &Vec<f64>, Distribution)> = known.collect();
    let width = bin_width(&known.iter().map(|(.., d)| *d).collect::<Vec<_>>());
    let high = known.iter().map(|(.., d)| d.maximum).fold(f64::NEG_INFINITY, f64::max);
    let line = |(name, values, d): &(&str, &Vec<f64>, Distribution)| {
        // Counted from above, so that no bin reaches beyond the highest value.
        let mut counts = BTreeMap::new();
        for value in values.iter().filter(|value| value.is_finite()) {
            *counts.entry(((high - value) / width).floor() as i64).or_insert(0usize) += 1;
        }
        let at = |bins: f64| high - bins * width;
        let first = counts.first_key_value().map_or(0, |(bin, _)| *bin);
        let last = counts.last_key_value().map_or(0, |(bin, _)| *bin);
        let shares = (first..=last).rev().map(|bin| {
            let count = counts.get(&bin).copied().unwrap_or(0);
            (at(bin as f64 + 0.5), count as f64 / d.count as f64)
        });
        let mut points = vec![(at(last as f64 + 1.0), 0.0)];
        points.extend(shares);
        points.push((at(first as f64), 0.0));
        Series { name: (*name).to_owned(), points }
    };
    Chart {
        name: name.to_owned(),
        x: Axis { label: label.to_owned(), unit, ..Axis::default() },
        y: Axis { label: "share of the models".into(), unit: Unit::Percent, ..Axis::default() },
        series: known.iter().map(line).collect(),
        ..Chart::default()
    }
}

/// A width by which the narrowest distribution has about the root of its number of values as bins, as far as that
/// is in `BINS`, and all together have not too many.
fn bin_width(all: &[Distribution]) -> f64 {
    let bins = |d: &Distribution| (d.count as f64).sqrt().clamp(BINS.start, BINS.end);
    let widths = all.iter().map(|d| (d.maximum - d.minimum) / bins(d)).filter(|width| *width > 0.0);
    let low = all.iter().map(|d| d.minimum).fold(f64::INFINITY, f64::min);
    let high = all.iter().map(|d| d.maximum).fold(f64::NEG_INFINITY, f64::max);
    let narrowest = widths.fold(f64::INFINITY, f64::min);
    let least = ((high - low) / MOST_BINS).max(1e-9 * low.abs().max(high.abs()));
    match narrowest.max(least) {
        // A little more, so that the least value is in the last bin and not at its edge.
        width if width.is_finite() && width > 0.0 => width * (1.0 + 1e-9),
        _ => least.max(f64::MIN_POSITIVE),
    }
}

/// Numbers by their size, before all other texts.
fn by_size(a: &str, b: &str) -> Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_of_finite_values() {
        let values = [4.0, f64::NAN, 1.0, 2.0, f64::INFINITY, 3.0];
        let d = Distribution::of(values).unwrap();
        assert_eq!((d.count, d.mean, d.minimum, d.median, d.maximum), (4, 2.5, 1.0, 2.5, 4.0));
        assert!((d.deviation - 1.25f64.sqrt()).abs() < 1e-12);
        assert!((d.lower - 1.3).abs() < 1e-12 && (d.upper - 3.7).abs() < 1e-12);
        assert_eq!(Distribution::of([f64::NAN]), None);
    }

    #[test]
    fn numbers_stand_before_texts() {
        let mut values = ["5e-4 step", "10", "5", "1e-3 (warm-up)", "0.5", "a"];
        values.sort_unstable_by(|a, b| by_size(a, b));
        assert_eq!(values, ["0.5", "5", "10", "1e-3 (warm-up)", "5e-4 step", "a"]);
    }

    #[test]
    fn every_model_is_in_one_bin() {
        let values = vec![0.0, 0.1, 0.1, 0.9, f64::NAN];
        let chart = distribution("d", "x", Unit::Number, &[("a", values), ("b", vec![f64::NAN])]);
        assert_eq!(chart.series.len(), 1);
        let shares: Vec<f64> = chart.series[0].points.iter().map(|p| p.1).collect();
        assert_eq!(shares, [0.0, 0.75, 0.0, 0.0, 0.0, 0.25, 0.0]);
        assert!((chart.series[0].points[1].0 - 0.09).abs() < 1e-6, "the centre of the first bin");
        assert_eq!(chart.series[0].points[6].0, 0.9, "the line ends at the highest value");
        for same in [2.0, 0.0, -1e300] {
            let chart = distribution("d", "x", Unit::Number, &[("a", vec![same; 3])]);
            let shares: Vec<f64> = chart.series[0].points.iter().map(|p| p.1).collect();
            assert_eq!(shares, [0.0, 1.0, 0.0], "{same}");
        }
        assert!(distribution("d", "x", Unit::Number, &[("a", vec![])]).series.is_empty());
        // One far away does not make millions of bins.
        let far = distribution("d", "x", Unit::Number, &[("a", vec![0.0, 1.0]), ("b", vec![1e9])]);
        assert!(far.series.iter().map(|series| series.points.len()).sum::<usize>() < 200);
    }
}
