//! Batch normalisation during training, and what is fused into it: a residual and a ReLU.
//!
//! Sums run over the rows of one image in `f32` and over rows and images in `f64`.

use super::maps::{BLOCK, Blocked};
use super::simd::{InstructionSet, Kernel, Lanes, dispatch};

/// Sums over pixels and samples for each channel, padded to whole blocks: two numbers a channel.
#[derive(Clone, Debug, Default)]
pub struct ChannelSums {
    /// First and second sum of every channel.
    pub sums: Vec<[f64; 2]>,
    /// What [`statistics`] subtracts: the first value of every channel that it sees, so that a
    /// spread that is small beside the mean is not lost.
    pub pivot: Vec<f32>,
    started: bool,
}

impl ChannelSums {
    /// Zeros for the channels of a layout.
    pub fn new(layout: &Blocked) -> Self {
        let len = layout.blocks() * BLOCK;
        ChannelSums { sums: vec![[0.0; 2]; len], pivot: vec![0.0; len], started: false }
    }

    /// Starts again.
    pub fn clear(&mut self) {
        self.sums.fill([0.0; 2]);
        self.started = false;
    }

    /// Adds another set of sums.
    pub fn add(&mut self, other: &ChannelSums) {
        for (a, b) in self.sums.iter_mut().zip(&other.sums) {
            *a = [a[0] + b[0], a[1] + b[1]];
        }
    }

    #[inline(always)]
    unsafe fn add_row<L: Lanes>(&mut self, block: usize, first: L, second: L) {
        let (mut a, mut b) = ([0f32; BLOCK], [0f32; BLOCK]);
        // SAFETY: the instruction set by the contract of the caller; both arrays hold 16 values.
        unsafe {
            first.store(a.as_mut_ptr());
            second.store(b.as_mut_ptr());
        }
        for (sum, (a, b)) in
            self.sums[block * BLOCK..][..BLOCK].iter_mut().zip(a.into_iter().zip(b))
        {
            *sum = [sum[0] + f64::from(a), sum[1] + f64::from(b)];
        }
    }
}

struct Statistics<'a> {
    layout: &'a Blocked,
    values: &'a [f32],
    sums: &'a mut ChannelSums,
}

impl Kernel for Statistics<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for block in 0..self.layout.blocks() {
            let pivot: [f32; BLOCK] =
                *self.sums.pivot[block * BLOCK..].first_chunk().expect("a block");
            // SAFETY: the instruction set by the contract; pixels hold 16 values.
            unsafe {
                let pivot = L::load(pivot.as_ptr());
                for y in 0..self.layout.height {
                    let (mut sum, mut squares) = (L::splat(0.0), L::splat(0.0));
                    for pixel in self.layout.pixels(self.values, block, y) {
                        let x = L::load(pixel.as_ptr()).sub(pivot);
                        sum = sum.add(x);
                        squares = squares.add_product(x, x);
                    }
                    self.sums.add_row(block, sum, squares);
                }
            }
        }
    }
}

/// Adds the sums of x - pivot and (x - pivot)^2 of one sample.
pub fn statistics(set: InstructionSet, layout: &Blocked, values: &[f32], sums: &mut ChannelSums) {
    if !std::mem::replace(&mut sums.started, true) {
        for (block, pivot) in sums.pivot.chunks_exact_mut(BLOCK).enumerate() {
            pivot.copy_from_slice(&values[layout.at(block, 0, 0)..][..BLOCK]);
        }
    }
    dispatch(set, Statistics { layout, values, sums });
}

struct Normalise<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
    input: (&'a Blocked, &'a [f32]),
    residual: Option<(&'a Blocked, &'a [f32])>,
    relu: bool,
    output: (&'a Blocked, &'a mut [f32]),
}

impl Kernel for Normalise<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (to, target) = self.output;
        for block in 0..to.blocks() {
            let of_block = |values: &[f32]| {
                let values: &[f32; BLOCK] = values[block * BLOCK..].first_chunk().expect("a block");
                // SAFETY: the instruction set by the contract; 16 values.
                unsafe { L::load(values.as_ptr()) }
            };
            let (scale, shift) = (of_block(self.scale), of_block(self.shift));
            for y in 0..to.height {
                let input = self.input.0.pixels(self.input.1, block, y);
                let output = to.pixels_mut(target, block, y);
                // SAFETY: the instruction set by the contract; pixels hold 16 values.
                unsafe {
                    let floor = L::splat(if self.relu { 0.0 } else { f32::NEG_INFINITY });
                    if let Some((layout, values)) = self.residual {
                        let residual = layout.pixels(values, block, y);
                        for ((to, from), residual) in output.zip(input).zip(residual) {
                            let value = shift.add_product(L::load(from.as_ptr()), scale);
                            let value = value.add(L::load(residual.as_ptr()));
                            floor.max(value).store(to.as_mut_ptr());
                        }
                    } else {
                        for (to, from) in output.zip(input) {
                            let value = shift.add_product(L::load(from.as_ptr()), scale);
                            floor.max(value).store(to.as_mut_ptr());
                        }
                    }
                }
            }
        }
    }
}

/// y = `[relu]` (scale * x + shift `[+ residual]`) of one sample; scale and shift are padded to
/// whole blocks with zeros.
pub fn normalise(
    set: InstructionSet,
    (scale, shift): (&[f32], &[f32]),
    input: (&Blocked, &[f32]),
    residual: Option<(&Blocked, &[f32])>,
    relu: bool,
    output: (&Blocked, &mut [f32]),
) {
    dispatch(set, Normalise { scale, shift, input, residual, relu, output });
}

struct BackwardSums<'a> {
    mean: &'a [f32],
    input: (&'a Blocked, &'a [f32]),
    output: Option<(&'a Blocked, &'a [f32])>,
    gradient: (&'a Blocked, &'a mut [f32]),
    sums: &'a mut ChannelSums,
}

impl Kernel for BackwardSums<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (layout, gradient) = self.gradient;
        for block in 0..layout.blocks() {
            let mean: &[f32; BLOCK] = self.mean[block * BLOCK..].first_chunk().expect("a block");
            for y in 0..layout.height {
                let input = self.input.0.pixels(self.input.1, block, y);
                let row = layout.pixels_mut(gradient, block, y);
                // SAFETY: the instruction set by the contract; pixels hold 16 values.
                unsafe {
                    let mean = L::load(mean.as_ptr());
                    let (mut sum, mut products) = (L::splat(0.0), L::splat(0.0));
                    if let Some((of_output, output)) = self.output {
                        let output = of_output.pixels(output, block, y);
                        for ((g, x), out) in row.zip(input).zip(output) {
                            let value = L::load(g.as_ptr()).where_positive(L::load(out.as_ptr()));
                            value.store(g.as_mut_ptr());
                            sum = sum.add(value);
                            let x = L::load(x.as_ptr()).sub(mean);
                            products = products.add_product(value, x);
                        }
                    } else {
                        for (g, x) in row.zip(input) {
                            let value = L::load(g.as_ptr());
                            sum = sum.add(value);
                            let x = L::load(x.as_ptr()).sub(mean);
                            products = products.add_product(value, x);
                        }
                    }
                    self.sums.add_row(block, sum, products);
                }
            }
        }
    }
}

/// Masks the gradient of one sample where the output (if given: after a ReLU) is not positive, and
/// adds the sums of g and g (x - mean).
pub fn backward_sums(
    set: InstructionSet,
    mean: &[f32],
    input: (&Blocked, &[f32]),
    output: Option<(&Blocked, &[f32])>,
    gradient: (&Blocked, &mut [f32]),
    sums: &mut ChannelSums,
) {
    dispatch(set, BackwardSums { mean, input, output, gradient, sums });
}

struct BackwardInput<'a> {
    coefficients: [&'a [f32]; 4],
    gradient: (&'a Blocked, &'a [f32]),
    input: (&'a Blocked, &'a [f32]),
    output: (&'a Blocked, &'a mut [f32]),
    accumulate: bool,
}

impl Kernel for BackwardInput<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (layout, target) = self.output;
        for block in 0..layout.blocks() {
            let [a, b, c, mean] = self.coefficients.map(|values| {
                let values: &[f32; BLOCK] = values[block * BLOCK..].first_chunk().expect("a block");
                // SAFETY: the instruction set by the contract; 16 values.
                unsafe { L::load(values.as_ptr()) }
            });
            for y in 0..layout.height {
                let gradient = self.gradient.0.pixels(self.gradient.1, block, y);
                let input = self.input.0.pixels(self.input.1, block, y);
                let pixels = layout.pixels_mut(target, block, y).zip(gradient).zip(input);
                for ((to, g), x) in pixels {
                    // SAFETY: as above.
                    unsafe {
                        let (g, x) = (L::load(g.as_ptr()), L::load(x.as_ptr()).sub(mean));
                        let mut value = c.add_product(x, b).add_product(g, a);
                        if self.accumulate {
                            value = value.add(L::load(to.as_ptr()));
                        }
                        value.store(to.as_mut_ptr());
                    }
                }
            }
        }
    }
}

/// dx = a g + b (x - mean) + c of one sample; the coefficients are a, b, c and the mean.
pub fn backward_input(
    set: InstructionSet,
    coefficients: [&[f32]; 4],
    gradient: (&Blocked, &[f32]),
    input: (&Blocked, &[f32]),
    output: (&Blocked, &mut [f32]),
    accumulate: bool,
) {
    dispatch(set, BackwardInput { coefficients, gradient, input, output, accumulate });
}

struct Sum<'a> {
    gradient: (&'a Blocked, &'a [f32]),
    sums: &'a mut [f32],
}

impl Kernel for Sum<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (layout, values) = self.gradient;
        for (block, sums) in self.sums.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            // SAFETY: the instruction set by the contract; pixels hold 16 values.
            unsafe {
                let mut total = L::load(sums.as_ptr());
                for y in 0..layout.height {
                    let mut sum = L::splat(0.0);
                    for pixel in layout.pixels(values, block, y) {
                        sum = sum.add(L::load(pixel.as_ptr()));
                    }
                    total = total.add(sum);
                }
                total.store(sums.as_mut_ptr());
            }
        }
    }
}

/// Adds every channel's sum over the pixels of one sample: the gradient of a bias.
pub fn sum_pixels(set: InstructionSet, gradient: (&Blocked, &[f32]), sums: &mut [f32]) {
    dispatch(set, Sum { gradient, sums });
}
