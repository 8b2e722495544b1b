//! Distillation of feature maps.

use super::{Loss, Size, dot};

/// Added to norms, so that maps of zeros can be normalised.
const EPSILON: f64 = 1e-3;

/// How far two normalised feature maps are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FeatureDistance {
    /// The square of the Euclidean norm of the difference, as NeRN's published results were made.
    #[default]
    Squared,
    /// The norm itself, as it is written in Choi et al.; its gradient where there is no difference
    /// is taken for 0.
    Norm,
}

/// Mean over the samples of the distance of u(teacher) and u(features), u(a) = a / (|a| + 0.001)
/// with the norm over all features of one sample, for one feature map; the published losses are the
/// sum over several maps (NeRN, Ashkenazi et al. 2022).
#[derive(Clone, Copy, Debug)]
pub struct FeatureDistillation<'a> {
    teacher: &'a [f32],
    size: Size,
    distance: FeatureDistance,
    weight: f64,
}

impl<'a> FeatureDistillation<'a> {
    /// For the teacher's features of a batch (samples x `features`), with the squared distance and
    /// weight 1.
    ///
    /// # Panics
    /// If the teacher's features are not whole rows.
    pub fn new(teacher: &'a [f32], features: usize) -> Self {
        let size = Size::of(teacher.len(), features);
        Self { teacher, size, distance: FeatureDistance::default(), weight: 1.0 }
    }

    /// Sets the distance.
    pub fn with_distance(self, distance: FeatureDistance) -> Self {
        Self { distance, ..self }
    }

    /// Multiplies the loss by a weight.
    pub fn with_weight(self, weight: f64) -> Self {
        Self { weight, ..self }
    }

    /// The distance of one sample; `gradient` is overwritten with its gradient times `weight`.
    ///
    /// With u = a / p, p = |a| + epsilon, and g the gradient with respect to u, which is a multiple
    /// of u - u', the gradient with respect to a is g / p - a (g . a) / (|a| p^2): a combination of
    /// a and of the teacher's a'.
    fn sample(&self, teacher: &[f32], features: &[f32], weight: f64, gradient: &mut [f32]) -> f64 {
        let (square, inner) = (dot(features, features), dot(features, teacher));
        let teacher_square = dot(teacher, teacher);
        let norm = square.sqrt();
        let (p, q) = (norm + EPSILON, teacher_square.sqrt() + EPSILON);
        let squared = square / (p * p) - 2.0 * inner / (p * q) + teacher_square / (q * q);
        let squared = if squared < 0.0 { 0.0 } else { squared };
        let (distance, slope) = match self.distance {
            FeatureDistance::Squared => (squared, 2.0),
            FeatureDistance::Norm if squared == 0.0 => (0.0, 0.0),
            FeatureDistance::Norm => (squared.sqrt(), squared.sqrt().recip()),
        };
        let slope = slope * weight;
        // g . a / |a|, 0 for maps of zeros.
        let radial = if norm == 0.0 { 0.0 } else { slope * (square / p - inner / q) / norm };
        let own = (slope - radial) / (p * p);
        let others = slope / (p * q);
        for ((gradient, &feature), &teacher) in gradient.iter_mut().zip(features).zip(teacher) {
            // In double precision: of maps that are nearly equal little is left.
            *gradient = (own * f64::from(feature) - others * f64::from(teacher)) as f32;
        }
        distance
    }
}

impl Loss for FeatureDistillation<'_> {
    fn evaluate(&self, first_sample: usize, outputs: &[f32], gradient: &mut [f32]) -> f64 {
        let width = self.size.width;
        let chunk = self.size.chunk(first_sample, outputs, gradient);
        let weight = self.weight / self.size.samples as f64;
        let teacher = self.teacher[self.size.values(&chunk)].chunks_exact(width);
        let rows = outputs.chunks_exact(width).zip(gradient.chunks_exact_mut(width));
        let distances =
            teacher.zip(rows).map(|(teacher, (row, out))| self.sample(teacher, row, weight, out));
        weight * distances.sum::<f64>()
    }
}
