//! Adding products back to where their kernel positions read from.
//!
//! Backward to an input of few channels, a sum for every input pixel would leave most lanes empty.
//! Instead the products of every output pixel with all kernel positions are made side by side
//! ([`LANES`] channels for each position), and added to the input pixels here.

use super::maps::Blocked;
use super::simd::{InstructionSet, Kernel, Lanes, dispatch};
use crate::net::Window;

/// Channels of one kernel position.
pub const LANES: usize = 8;

struct Scatter<'a> {
    window: Window,
    y: usize,
    products: &'a [f32],
    pixel: usize,
    target: (&'a Blocked, &'a mut [f32]),
}

impl Kernel for Scatter<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Window { size, stride, padding } = self.window;
        let (layout, values) = self.target;
        for ky in 0..size {
            let Some(row) = (self.y * stride + ky).checked_sub(padding) else { continue };
            if row >= layout.height {
                continue;
            }
            let row = layout.row_mut(values, 0, row);
            for (x, products) in self.products.chunks_exact(self.pixel).enumerate() {
                let positions = products[ky * size * LANES..].as_chunks::<LANES>().0;
                for (kx, product) in positions[..size].iter().enumerate() {
                    let column = (x * stride + kx).wrapping_sub(padding);
                    if let Some(pixel) = row.get_mut(column) {
                        for lane in 0..LANES {
                            pixel[lane] += product[lane];
                        }
                    }
                }
            }
        }
    }
}

/// Adds the products `[width][pixel]` of output row `y` to one sample of the input; a pixel's
/// products are `[positions][LANES]`.
pub fn scatter_row(
    set: InstructionSet,
    window: Window,
    y: usize,
    products: (&[f32], usize),
    target: (&Blocked, &mut [f32]),
) {
    let (products, pixel) = products;
    dispatch(set, Scatter { window, y, products, pixel, target });
}
