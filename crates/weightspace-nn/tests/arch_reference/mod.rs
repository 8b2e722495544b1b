//! The function of a network and weights to try it with, written for clarity alone.

use weightspace_core::{StateDict, Tensor};
use weightspace_nn::net::{Activation, Net, Op, ParameterSpec, Shape, Window};

/// A generator of numbers in [-1, 1): enough to tell functions apart.
pub struct Numbers(pub u64);

impl Numbers {
    /// The next number.
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// A permutation of `n` units.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut p: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            p.swap(i, ((self.next() + 1.0) / 2.0 * (i + 1) as f64) as usize);
        }
        p
    }

    /// Weights for a network, such that its values stay of order 1.
    pub fn state_dict(&mut self, net: &Net) -> StateDict {
        let tensor = |p: ParameterSpec| {
            let scale = (3.0 / p.fan_in.max(1) as f64).sqrt();
            let positive = p.name.ends_with("running_var");
            let value = |v: f64| if positive { v.abs() + 0.5 } else { v * scale };
            let values: Vec<f32> =
                (0..p.element_count()).map(|_| value(self.next()) as f32).collect();
            (p.name, Tensor::from_f32(p.shape, &values))
        };
        net.parameters().into_iter().map(tensor).collect()
    }
}

/// The network's function, written for clarity: f64, one sample.
pub fn forward(net: &Net, dict: &StateDict, input: &[f64]) -> Vec<f64> {
    let mut values: Vec<Vec<f64>> = Vec::new();
    for node in net.nodes() {
        let get = |suffix: &str| -> Option<Vec<f64>> {
            dict.get(&format!("{}.{suffix}", node.name)).map(|t| t.iter_f64().collect())
        };
        let x = node.inputs.first().map_or(input, |id| values[id.index()].as_slice());
        let shape = node.inputs.first().map_or(node.shape, |id| net.node(*id).shape);
        let plane = x.len() / shape.channels();
        let of_channel = |f: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
            x.iter().enumerate().map(|(i, &v)| f(i / plane, v)).collect()
        };
        let value = match node.op {
            Op::Input | Op::Dropout { .. } | Op::Flatten => x.to_vec(),
            Op::Conv2d { out_channels, in_channels, window, .. } => {
                let (w, bias) = (get("weight").unwrap(), get("bias"));
                let k2 = window.size * window.size;
                let mut out = Vec::new();
                for o in 0..out_channels {
                    let start = bias.as_ref().map_or(0.0, |b| b[o]);
                    out.extend(windows(shape, node.shape, window).map(|positions| {
                        let mut sum = start;
                        for c in 0..in_channels {
                            for &(tap, position) in &positions {
                                sum +=
                                    w[(o * in_channels + c) * k2 + tap] * x[c * plane + position];
                            }
                        }
                        sum
                    }));
                }
                out
            }
            Op::Linear { in_features, .. } => {
                let (w, b) = (get("weight").unwrap(), get("bias").unwrap());
                let dot = |row: &[f64]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
                w.chunks(in_features).zip(b).map(|(row, b)| dot(row) + b).collect()
            }
            Op::BatchNorm { eps, .. } => {
                let [w, b, m, v] =
                    ["weight", "bias", "running_mean", "running_var"].map(|t| get(t).unwrap());
                of_channel(&|c, x| (x - m[c]) / (v[c] + eps as f64).sqrt() * w[c] + b[c])
            }
            Op::GroupNorm { groups, eps, .. } => {
                let (w, b) = (get("weight").unwrap(), get("bias").unwrap());
                let len = x.len() / groups;
                let mean = |g: &[f64]| g.iter().sum::<f64>() / len as f64;
                let means: Vec<f64> = x.chunks(len).map(mean).collect();
                let square = |i: usize, v: f64| (v - means[i / len]).powi(2);
                let squares: Vec<f64> = x.iter().enumerate().map(|(i, &v)| square(i, v)).collect();
                let vars: Vec<f64> = squares.chunks(len).map(mean).collect();
                let norm = |i: usize, v: f64| {
                    (v - means[i / len]) / (vars[i / len] + eps as f64).sqrt() * w[i / plane]
                        + b[i / plane]
                };
                x.iter().enumerate().map(|(i, &v)| norm(i, v)).collect()
            }
            Op::LocalResponseNorm { size, alpha, beta, k } => {
                let scale = |i: usize| {
                    let (c, p) = (i / plane, i % plane);
                    let channels = c.saturating_sub(size / 2)..=c + (size - 1) / 2;
                    let inside = channels.filter(|&c| c < shape.channels());
                    let sum: f64 = inside.map(|c| x[c * plane + p].powi(2)).sum();
                    (k as f64 + alpha as f64 / size as f64 * sum).powf(beta as f64)
                };
                x.iter().enumerate().map(|(i, &v)| v / scale(i)).collect()
            }
            Op::Activation(Activation::Relu) => x.iter().map(|v| v.max(0.0)).collect(),
            Op::Activation(Activation::Gelu) => {
                let phi = |v: f64| 0.5 * (1.0 + libm::erf(v * std::f64::consts::FRAC_1_SQRT_2));
                x.iter().map(|&v| v * phi(v)).collect()
            }
            Op::Activation(Activation::Sigmoid) => {
                x.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect()
            }
            Op::Activation(Activation::Tanh) => x.iter().map(|v| v.tanh()).collect(),
            Op::Activation(Activation::Sine) => x.iter().map(|v| v.sin()).collect(),
            Op::MaxPool(window) => pooled(x, shape, node.shape, window, &|values| {
                values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            }),
            Op::AvgPool(window) => pooled(x, shape, node.shape, window, &|values| {
                values.iter().sum::<f64>() / (window.size * window.size) as f64
            }),
            Op::GlobalAvgPool => {
                x.chunks(plane).map(|c| c.iter().sum::<f64>() / plane as f64).collect()
            }
            Op::Add => x.iter().zip(&values[node.inputs[1].index()]).map(|(a, b)| a + b).collect(),
            Op::PadShortcut { stride, out_channels } => {
                let offset = (out_channels - shape.channels()) / 2;
                let window = Window { size: 1, stride, padding: 0 };
                let old = pooled(x, shape, node.shape, window, &|values| values[0]);
                let mut out = vec![0.0; node.shape.element_count()];
                let start = offset * (out.len() / out_channels);
                out[start..start + old.len()].copy_from_slice(&old);
                out
            }
            ref other => panic!("no architecture of the table has {other:?}"),
        };
        values.push(value);
    }
    values.pop().unwrap()
}

/// For every output position the taps of the window that lie inside: (tap, input position).
fn windows(
    input: Shape,
    output: Shape,
    window: Window,
) -> impl Iterator<Item = Vec<(usize, usize)>> {
    let plane = |shape| match shape {
        Shape::Maps { height, width, .. } => (height, width),
        _ => panic!("feature maps expected"),
    };
    let ((height, width), (out_height, out_width)) = (plane(input), plane(output));
    let Window { size, stride, padding } = window;
    (0..out_height * out_width).map(move |position| {
        let (top, left) = (position / out_width * stride, position % out_width * stride);
        let inside = |tap: usize| {
            let row = (top + tap / size).checked_sub(padding).filter(|&r| r < height)?;
            let column = (left + tap % size).checked_sub(padding).filter(|&c| c < width)?;
            Some((tap, row * width + column))
        };
        (0..size * size).filter_map(inside).collect()
    })
}

fn pooled(
    x: &[f64],
    input: Shape,
    output: Shape,
    window: Window,
    reduce: &dyn Fn(&[f64]) -> f64,
) -> Vec<f64> {
    let plane = x.len() / input.channels();
    let positions: Vec<_> = windows(input, output, window).collect();
    let of = |map: &[f64], taps: &[(usize, usize)]| {
        reduce(&taps.iter().map(|&(_, p)| map[p]).collect::<Vec<_>>())
    };
    x.chunks(plane).flat_map(|map| positions.iter().map(move |taps| of(map, taps))).collect()
}
