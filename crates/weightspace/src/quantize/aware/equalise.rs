//! One step for all channels of a layer.

use weightspace_core::{StateDict, Tensor};
use weightspace_nn::engine::{EngineError, batch_norm_affine};
use weightspace_nn::net::{Net, Op};

/// The same network, with the weights before every batch normalisation that nothing else reads as they would be
/// if it were folded: rows scaled by their channel's gain. What the normalisation then does is undone in its
/// statistics and its scale, so that it can go on being trained.
///
/// Without it a channel that the normalisation makes small would have the same step as one that it makes large.
///
/// # Errors
/// If the state dict lacks a tensor of the network.
pub fn equalise(net: &Net, original: &StateDict) -> Result<StateDict, EngineError> {
    let mut tensors = original.clone();
    let consumers = net.consumers();
    for node in net.node_ids() {
        let [next] = consumers[node.index()][..] else { continue };
        let (n, norm) = (net.node(node), net.node(next));
        let Op::BatchNorm { eps, .. } = norm.op else { continue };
        let bias = match n.op {
            Op::Conv2d { bias, .. } | Op::Linear { bias, .. } => bias,
            _ => continue,
        };
        let gains: Vec<f64> =
            batch_norm_affine(net, next, original)?.iter().map(|&(scale, _)| scale).collect();
        let mut change = |name: String, change: &dyn Fn(usize, f32) -> f32| {
            let missing = || EngineError::MissingTensor { name: name.clone() };
            let tensor = tensors.get(&name).ok_or_else(missing)?;
            let mut values = tensor.to_f32().into_owned();
            let row = (values.len() / gains.len()).max(1);
            for (channel, row) in values.chunks_exact_mut(row).enumerate() {
                row.iter_mut().for_each(|value| *value = change(channel, *value));
            }
            let changed = Tensor::from_f32(tensor.shape().to_vec(), &values);
            tensors.insert(name, changed);
            Ok(())
        };
        let scaled = |channel: usize, value: f32| (f64::from(value) * gains[channel]) as f32;
        change(format!("{}.weight", n.name), &scaled)?;
        if bias {
            change(format!("{}.bias", n.name), &scaled)?;
        }
        let squared =
            |channel: usize, value: f32| (f64::from(value) * gains[channel].powi(2)) as f32;
        change(format!("{}.running_mean", norm.name), &scaled)?;
        change(format!("{}.running_var", norm.name), &squared)?;
        let name = format!("{}.running_var", norm.name);
        let missing = || EngineError::MissingTensor { name: name.clone() };
        let variance = original.get(&name).ok_or_else(missing)?.to_f32().into_owned();
        let deviation = |channel: usize, _| {
            let variance = f64::from(variance[channel]) * gains[channel].powi(2);
            (variance + f64::from(eps)).sqrt() as f32
        };
        change(format!("{}.weight", norm.name), &deviation)?;
    }
    Ok(tensors)
}
