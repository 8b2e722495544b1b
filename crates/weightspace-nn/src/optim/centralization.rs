//! Gradient centralisation.

use super::ParameterGroup;
use super::clip::sum;

/// Gradient centralisation (Yong et al. 2020): writes `gradient` to `centralized` with the mean of every
/// output's gradient taken away; vectors stay as they are.
pub(super) fn centralize(groups: &[ParameterGroup], gradient: &[f32], centralized: &mut [f32]) {
    for group in groups {
        let source = &gradient[group.range.clone()];
        let target = &mut centralized[group.range.clone()];
        match group.matrix() {
            Some((_, inputs)) if inputs > 0 => {
                for (source, target) in source.chunks(inputs).zip(target.chunks_mut(inputs)) {
                    let mean = (sum(source, |v| v) / inputs as f64) as f32;
                    target.iter_mut().zip(source).for_each(|(t, s)| *t = s - mean);
                }
            }
            _ => target.copy_from_slice(source),
        }
    }
}
