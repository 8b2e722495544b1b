//! Second moments of a layer's inputs, from a few hundred unlabelled images.

use faer::linalg::matmul::{matmul, triangular};
use faer::{Accum, Mat, MatRef, Par};
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
    /// Where a value is added to the layer's output (the shortcut of a residual block): what is missing
    /// in it, the original less the current.
    pub missing: Option<Missing>,
}

/// Moments of what is missing in the value that is added to a layer's output.
#[derive(Clone)]
pub struct Missing {
    /// Mean of every output channel.
    pub mean: Vec<f64>,
    /// Covariance with the current inputs, `[output channels, d]`.
    pub covariance: Mat<f64>,
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

    /// Reads another value, of the shape of the layer's output, where the layer writes.
    fn at_outputs(&self, net: &Net, value: NodeId) -> Self {
        PatchReader {
            input: value,
            in_channels: net.node(value).shape.channels(),
            kernel: 1,
            stride: 1,
            padding: 0,
            height: self.height,
            width: self.width,
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

/// Collects the moments of the inputs of layer `node`, to whose output `residual` is added, over about
/// `samples` output positions.
pub fn collect(
    net: &Net,
    node: NodeId,
    residual: Option<NodeId>,
    original: &Inputs<'_>,
    current: Option<&Inputs<'_>>,
    samples: usize,
) -> Statistics {
    let reader = PatchReader::new(net, node);
    let residual = residual.map(|residual| reader.at_outputs(net, residual));
    let missing_len = residual.as_ref().filter(|_| current.is_some()).map(PatchReader::len);
    let images: usize = original.chunks.iter().map(Activations::images).sum();
    let total = reader.height * reader.width;
    let per_image = samples.div_ceil(images.max(1)).clamp(1, total);
    let mut moments = Moments::new(reader.len(), current.is_some(), missing_len);
    let mut index = 0;
    for (c, chunk) in original.chunks.iter().enumerate() {
        for image in 0..chunk.images() {
            for at in positions(total, per_image, index) {
                reader.read(original.engine, chunk, image, at, moments.original.next_sample());
                if let Some(current) = current {
                    let chunk = &current.chunks[c];
                    reader.read(current.engine, chunk, image, at, moments.current.next_sample());
                }
                if let (Some(residual), Some(current)) = (&residual, current) {
                    let (now, chunk_now) = (current.engine, &current.chunks[c]);
                    let missing = moments.missing.next_sample();
                    residual.read(original.engine, chunk, image, at, missing);
                    residual.read(now, chunk_now, image, at, &mut moments.added);
                    missing.iter_mut().zip(&moments.added).for_each(|(m, added)| *m -= added);
                }
                moments.commit();
            }
            index += 1;
        }
    }
    moments.finish()
}

/// Samples of a vector, the columns of a column-major `[len, BLOCK]` matrix, and their sum.
struct Samples {
    len: usize,
    values: Vec<f32>,
    filled: usize,
    sums: Vec<f64>,
}

impl Samples {
    fn new(len: usize) -> Self {
        Samples { len, values: vec![0.0; len * BLOCK], filled: 0, sums: vec![0.0; len] }
    }

    fn next_sample(&mut self) -> &mut [f32] {
        self.filled += 1;
        &mut self.values[(self.filled - 1) * self.len..][..self.len]
    }

    fn matrix(&self) -> MatRef<'_, f32> {
        MatRef::from_column_major_slice(
            &self.values[..self.len * self.filled],
            self.len,
            self.filled,
        )
    }

    /// Adds the samples to the sums, and forgets them.
    fn flush(&mut self) {
        for sample in self.values[..self.len * self.filled].chunks_exact(self.len.max(1)) {
            self.sums.iter_mut().zip(sample).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        self.filled = 0;
    }

    fn means(&self, count: f64) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / count).collect()
    }
}

/// A sum of products of two vectors: block by block in `f32`, over all blocks in `f64`.
struct Products {
    sum: Mat<f64>,
    block: Mat<f32>,
}

impl Products {
    fn new(rows: usize, columns: usize) -> Self {
        Products { sum: Mat::zeros(rows, columns), block: Mat::zeros(rows, columns) }
    }

    fn add(&mut self, a: &Samples, b: &Samples) {
        let (a, b) = (a.matrix(), b.matrix().transpose());
        matmul(self.block.as_mut(), Accum::Replace, a, b, 1.0, Par::rayon(0));
        self.add_block();
    }

    /// Adds products of a vector with itself: what is below the diagonal, and the diagonal.
    fn add_squares(&mut self, a: &Samples) {
        use triangular::BlockStructure::{Rectangular, TriangularLower};
        let (a, into) = (a.matrix(), self.block.as_mut());
        let par = Par::rayon(0);
        let b = a.transpose();
        triangular::matmul(
            into,
            TriangularLower,
            Accum::Replace,
            a,
            Rectangular,
            b,
            Rectangular,
            1.0,
            par,
        );
        self.add_block();
    }

    fn add_block(&mut self) {
        faer::zip!(self.sum.as_mut(), self.block.as_ref())
            .for_each(|faer::unzip!(sum, block)| *sum += f64::from(*block));
    }

    fn covariance(&self, count: f64, rows: &[f64], columns: &[f64]) -> Mat<f64> {
        Mat::from_fn(self.sum.nrows(), self.sum.ncols(), |i, j| {
            self.sum[(i, j)] / count - rows[i] * columns[j]
        })
    }

    /// Of a vector with itself.
    fn variance(&self, count: f64, means: &[f64]) -> Mat<f64> {
        Mat::from_fn(self.sum.nrows(), self.sum.ncols(), |i, j| {
            self.sum[(i.max(j), i.min(j))] / count - means[i] * means[j]
        })
    }
}

/// Running sums.
struct Moments {
    original: Samples,
    /// Empty where the current inputs are the original ones.
    current: Samples,
    missing: Samples,
    /// The current value that is added to the output, at one place.
    added: Vec<f32>,
    both: bool,
    count: usize,
    squares: Products,
    cross: Products,
    missing_cross: Option<Products>,
}

impl Moments {
    fn new(d: usize, both: bool, missing: Option<usize>) -> Self {
        let second = if both { d } else { 0 };
        let missing_len = missing.unwrap_or(0);
        Moments {
            original: Samples::new(d),
            current: Samples::new(second),
            missing: Samples::new(missing_len),
            added: vec![0.0; missing_len],
            both,
            count: 0,
            squares: Products::new(d, d),
            cross: Products::new(second, second),
            missing_cross: missing.map(|len| Products::new(len, d)),
        }
    }

    fn commit(&mut self) {
        self.count += 1;
        if self.original.filled == BLOCK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.original.filled == 0 {
            return;
        }
        let current = if self.both { &self.current } else { &self.original };
        self.squares.add_squares(current);
        if self.both {
            self.cross.add(&self.original, current);
        }
        if let Some(products) = &mut self.missing_cross {
            products.add(&self.missing, current);
        }
        self.original.flush();
        self.current.flush();
        self.missing.flush();
    }

    fn finish(mut self) -> Statistics {
        self.flush();
        let n = self.count.max(1) as f64;
        let original_mean = self.original.means(n);
        let current_mean = if self.both { self.current.means(n) } else { original_mean.clone() };
        let covariance = self.squares.variance(n, &current_mean);
        let cross = self.both.then(|| self.cross.covariance(n, &original_mean, &current_mean));
        let missing = self.missing_cross.map(|products| {
            let mean = self.missing.means(n);
            Missing { covariance: products.covariance(n, &mean, &current_mean), mean }
        });
        Statistics { original_mean, current_mean, covariance, cross, missing }
    }
}
