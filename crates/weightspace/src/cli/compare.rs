//! Comparison of two models tensor by tensor, for `diff` and `verify`.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::Serialize;
use weightspace_core::{DType, Tensor, TensorInfo};

use super::model::Model;

/// How two models differ.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Same names, types, shapes and bytes; the order does not matter.
    pub identical: bool,
    /// Largest absolute difference of two weights, or of two elements where there are no weights; nothing if no tensor can be
    /// compared. (Integers count steps and batches.)
    pub max_abs: Option<f64>,
    /// Name of the tensor that has it.
    pub most_different: Option<String>,
    /// Tensors that both have, in the order of the first.
    pub tensors: Vec<TensorComparison>,
    /// Names that only the first has.
    pub only_in_a: Vec<String>,
    /// Names that only the second has.
    pub only_in_b: Vec<String>,
}

/// How two tensors of one name differ.
#[derive(Debug, Serialize)]
pub struct TensorComparison {
    /// Name of both.
    pub name: String,
    /// Shape of the first.
    pub shape: Vec<usize>,
    /// Element type of the first.
    pub dtype: &'static str,
    /// Shape of the second, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_shape: Option<Vec<usize>>,
    /// Element type of the second, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_dtype: Option<&'static str>,
    /// Same type, shape and bytes.
    pub identical: bool,
    /// What the elements say; nothing for different shapes.
    #[serde(flatten)]
    pub measures: Option<Measures>,
}

/// Measures of two tensors of one shape. JSON has `null` for what is not finite.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measures {
    /// Euclidean norm of the first.
    pub norm_a: f64,
    /// Euclidean norm of the second.
    pub norm_b: f64,
    /// Cosine of the angle between them; nothing if one of them is zero.
    pub cosine: Option<f64>,
    /// Largest absolute difference; two NaN do not differ, NaN and a number differ by NaN.
    pub max_abs: f64,
}

/// Compares two models, several tensors at a time.
pub fn compare(a: &Model, b: &Model) -> anyhow::Result<Comparison> {
    let in_a = by_name(a.tensors());
    let in_b = by_name(b.tensors());
    let (reader_a, reader_b) = (a.tensor_reader()?, b.tensor_reader()?);
    let common: Vec<_> =
        a.tensors().iter().filter(|t| in_b.contains_key(t.name.as_str())).collect();
    let compare_one = |info: &&TensorInfo| {
        let other = in_b[info.name.as_str()];
        if info.shape != other.shape {
            return Ok(TensorComparison::new(info, other, false, None));
        }
        let (x, y) = (reader_a.read(&info.name)?, reader_b.read(&info.name)?);
        Ok(TensorComparison::new(info, other, x == y, Some(Measures::of(&x, &y))))
    };
    let tensors = common.par_iter().map(compare_one).collect::<anyhow::Result<Vec<_>>>()?;
    let missing = |of: &Model, from: &HashMap<&str, &TensorInfo>| -> Vec<String> {
        let names = of.tensors().iter().map(|t| &t.name);
        names.filter(|name| !from.contains_key(name.as_str())).cloned().collect()
    };
    let (only_in_a, only_in_b) = (missing(a, &in_b), missing(b, &in_a));
    let most_different = most_different(&tensors);
    let same_names = only_in_a.is_empty() && only_in_b.is_empty();
    Ok(Comparison {
        identical: same_names && tensors.iter().all(|t| t.identical),
        max_abs: most_different.as_ref().map(|(_, max_abs)| *max_abs),
        most_different: most_different.map(|(name, _)| name),
        tensors,
        only_in_a,
        only_in_b,
    })
}

/// The largest difference and where it is: among weights, if there are such.
fn most_different(tensors: &[TensorComparison]) -> Option<(String, f64)> {
    let measured = |of: &&TensorComparison| of.measures.is_some();
    let is_float =
        |of: &&TensorComparison| DType::ALL.iter().any(|d| d.name() == of.dtype && d.is_float());
    let has_floats = tensors.iter().filter(measured).any(|tensor| is_float(&tensor));
    let counted = tensors.iter().filter(|tensor| !has_floats || is_float(tensor));
    let found = counted.filter_map(|tensor| Some((&tensor.name, tensor.measures?.max_abs)));
    // The first of equals.
    let most = found.reduce(|a, b| if b.1 > a.1 || b.1.is_nan() && !a.1.is_nan() { b } else { a });
    most.map(|(name, max_abs)| (name.clone(), max_abs))
}

fn by_name(tensors: &[TensorInfo]) -> HashMap<&str, &TensorInfo> {
    tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect()
}

/// The larger of two values; NaN is larger than everything.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

impl TensorComparison {
    fn new(a: &TensorInfo, b: &TensorInfo, identical: bool, measures: Option<Measures>) -> Self {
        TensorComparison {
            name: a.name.clone(),
            shape: a.shape.clone(),
            dtype: a.dtype.name(),
            other_shape: (a.shape != b.shape).then(|| b.shape.clone()),
            other_dtype: (a.dtype != b.dtype).then(|| b.dtype.name()),
            identical,
            measures,
        }
    }
}

impl Measures {
    /// Measures two tensors of one shape in double precision.
    pub fn of(a: &Tensor, b: &Tensor) -> Self {
        let (mut aa, mut bb, mut ab, mut max_abs) = (0.0, 0.0, 0.0, 0.0);
        for (x, y) in a.iter_f64().zip(b.iter_f64()) {
            aa += x * x;
            bb += y * y;
            ab += x * y;
            let same = x == y || (x.is_nan() && y.is_nan());
            max_abs = larger(max_abs, if same { 0.0 } else { (x - y).abs() });
        }
        let (norm_a, norm_b) = (aa.sqrt(), bb.sqrt());
        let zero = norm_a == 0.0 || norm_b == 0.0;
        let cosine = (!zero).then(|| (ab / (norm_a * norm_b)).clamp(-1.0, 1.0));
        Measures { norm_a, norm_b, cosine, max_abs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measures(a: &[f32], b: &[f32]) -> Measures {
        Measures::of(&Tensor::from_f32(vec![a.len()], a), &Tensor::from_f32(vec![b.len()], b))
    }

    #[test]
    fn measures_are_those_of_the_textbook() {
        let m = measures(&[3.0, 4.0], &[4.0, 3.0]);
        assert_eq!((m.norm_a, m.norm_b, m.cosine, m.max_abs), (5.0, 5.0, Some(0.96), 1.0));
        assert_eq!(measures(&[0.0], &[2.0]).cosine, None);
        assert_eq!(measures(&[1.0], &[-1.0]).cosine, Some(-1.0));
    }

    #[test]
    fn what_is_not_finite_is_not_hidden() {
        let nan = f32::NAN;
        assert!(measures(&[nan, 0.0], &[0.0, 5.0]).max_abs.is_nan());
        assert!(measures(&[0.0, nan], &[5.0, 0.0]).max_abs.is_nan());
        assert_eq!(measures(&[nan, f32::INFINITY], &[nan, f32::INFINITY]).max_abs, 0.0);
        assert_eq!(measures(&[f32::INFINITY], &[0.0]).max_abs, f64::INFINITY);
        assert!(larger(f64::NAN, 1.0).is_nan() && larger(1.0, f64::NAN).is_nan());
    }
}
