//! Second moments of a layer's inputs, from a few hundred unlabelled images.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use weightspace_nn::engine::Activations;
use weightspace_nn::net::{Net, Op};
use weightspace_nn::{Engine, NodeId};

/// Columns of the sample matrix multiplied at a time: bounds the memory.
const BLOCK: usize = 2048;

/// Moments of the inputs of one layer, in the network as it was (`original`) and in the network
/// whose earlier layers are already quantised (`current`). Dimension: inputs of one output.
#[derive(Clone)]
pub struct Statistics {
    /// Mean input of the original network.
    pub original_mean: Vec<f64>,
    /// Mean input of the current network.
    pub current_mean: Vec<f64>,
    /// Covariance of the current inputs, `[d, d]`.
    pub covariance: Mat<f64>,
    /// Covariance of original (rows) and current (columns) inputs; `None` where both are the same.
    pub cross: Option<Mat<f64>>,
}

/// The chunks of images that have been brought up to one layer, in one engine.
pub struct Inputs<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// Its chunks.
    pub chunks: &'a [Activations],
}

/// Reads the inputs that a layer sees at one output position.
struct PatchReader {
    input: NodeId,
    in_channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    /// Output rows and columns.
    height: usize,
    width: usize,
}

impl PatchReader {
    fn new(net: &Net, node: NodeId) -> Self {
        let n = net.node(node);
        let input = n.inputs[0];
        match (&n.op, n.shape) {
            (
                &Op::Conv2d { in_channels, window, .. },
                weightspace_nn::net::Shape::Maps { height, width, .. },
            ) => PatchReader {
                input,
                in_channels,
                kernel: window.size,
                stride: window.stride,
                padding: window.padding,
                height,
                width,
            },
            _ => PatchReader {
                input,
                in_channels: net.node(input).shape.channels(),
                kernel: 1,
                stride: 1,
                padding: 0,
                height: 1,
                width: 1,
            },
        }
    }

    /// Inputs of one output.
    fn len(&self) -> usize {
        self.in_channels * self.kernel * self.kernel
    }

    /// Writes the inputs of output position `at` of an image, in the order of the weight's columns.
    fn read(
        &self,
        engine: &Engine,
        chunk: &Activations,
        image: usize,
        at: usize,
        patch: &mut [f32],
    ) {
        let layout = engine.plan().layouts[self.input.index()];
        let Some(values) = chunk.value(engine.plan(), self.input, image) else { return };
        let (y, x) = (at / self.width * self.stride, at % self.width * self.stride);
        let strides = layout.strides();
        let first = (layout.border - self.padding) * (strides.row + strides.pixel);
        let first = first + y * strides.row + x * strides.pixel;
        let mut patch = patch.iter_mut();
        for c in 0..self.in_channels {
            let plane = first + c / 16 * strides.block + c % 16;
            for ky in 0..self.kernel {
                for kx in 0..self.kernel {
                    if let Some(value) = patch.next() {
                        *value = values[plane + ky * strides.row + kx * strides.pixel];
                    }
                }
            }
        }
    }
}

/// Output positions looked at in image `image`: all, or `count` of them, evenly spread with an
/// offset that changes from image to image.
fn positions(total: usize, count: usize, image: usize) -> impl Iterator<Item = usize> {
    let count = count.min(total);
    let shift = image.wrapping_mul(0x9E37_79B9) % total;
    (0..count).map(move |i| (i * total / count + shift) % total)
}

/// Collects the moments of the inputs of layer `node` over about `samples` output positions.
pub fn collect(
    net: &Net,
    node: NodeId,
    original: &Inputs<'_>,
    current: Option<&Inputs<'_>>,
    samples: usize,
) -> Statistics {
    let reader = PatchReader::new(net, node);
    let d = reader.len();
    let images: usize = original.chunks.iter().map(Activations::images).sum();
    let total = reader.height * reader.width;
    let per_image = samples.div_ceil(images.max(1)).clamp(1, total);
    let mut moments = Moments::new(d, current.is_some());
    let mut index = 0;
    for (c, chunk) in original.chunks.iter().enumerate() {
        for image in 0..chunk.images() {
            for at in positions(total, per_image, index) {
                let (a, b) = moments.next_sample();
                reader.read(original.engine, chunk, image, at, a);
                if let Some(current) = current {
                    reader.read(current.engine, &current.chunks[c], image, at, b);
                }
                moments.commit();
            }
            index += 1;
        }
    }
    moments.finish()
}

/// Running sums; samples are columns of column-major `[d, BLOCK]` matrices.
struct Moments {
    d: usize,
    original: Vec<f32>,
    current: Vec<f32>,
    filled: usize,
    count: usize,
    both: bool,
    sums: [Vec<f64>; 2],
    square: Mat<f64>,
    cross: Mat<f64>,
    product: Mat<f32>,
}

impl Moments {
    fn new(d: usize, both: bool) -> Self {
        let second = if both { d } else { 0 };
        Moments {
            d,
            original: vec![0.0; d * BLOCK],
            current: vec![0.0; second * BLOCK],
            filled: 0,
            count: 0,
            both,
            sums: [vec![0.0; d], vec![0.0; d]],
            square: Mat::zeros(d, d),
            cross: Mat::zeros(second, second),
            product: Mat::zeros(d, d),
        }
    }

    fn next_sample(&mut self) -> (&mut [f32], &mut [f32]) {
        let at = self.filled * self.d;
        let second = if self.both { at..at + self.d } else { 0..0 };
        (&mut self.original[at..at + self.d], &mut self.current[second])
    }

    fn commit(&mut self) {
        self.filled += 1;
        self.count += 1;
        if self.filled == BLOCK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let (d, n) = (self.d, self.filled);
        self.filled = 0;
        if n == 0 {
            return;
        }
        let a = MatRef::from_column_major_slice(&self.original[..d * n], d, n);
        let b = match self.both {
            true => MatRef::from_column_major_slice(&self.current[..d * n], d, n),
            false => a,
        };
        let mut add = |lhs: MatRef<'_, f32>, rhs: MatRef<'_, f32>, into: MatMut<'_, f64>| {
            let par = Par::rayon(0);
            matmul(self.product.as_mut(), Accum::Replace, lhs, rhs.transpose(), 1.0, par);
            faer::zip!(into, self.product.as_ref())
                .for_each(|faer::unzip!(into, from)| *into += f64::from(*from));
        };
        add(b, b, self.square.as_mut());
        if self.both {
            add(a, b, self.cross.as_mut());
        }
        for (sum, matrix) in self.sums.iter_mut().zip([a, b]) {
            for column in matrix.col_iter() {
                for (sum, value) in sum.iter_mut().zip(column.iter()) {
                    *sum += f64::from(*value);
                }
            }
        }
    }

    fn finish(mut self) -> Statistics {
        self.flush();
        let n = self.count.max(1) as f64;
        let [original_mean, current_mean] =
            self.sums.map(|s| s.iter().map(|v| v / n).collect::<Vec<_>>());
        let center = |sums: Mat<f64>, rows: &[f64], columns: &[f64]| {
            Mat::from_fn(sums.nrows(), sums.ncols(), |i, j| sums[(i, j)] / n - rows[i] * columns[j])
        };
        let covariance = center(self.square, &current_mean, &current_mean);
        let cross = self.both.then(|| center(self.cross, &original_mean, &current_mean));
        Statistics { original_mean, current_mean, covariance, cross }
    }
}
