//! Borders of zeros around feature maps.

use super::super::Vector;

/// Puts maps into larger ones with a border of zeros.
#[derive(Clone, Debug)]
pub(in crate::lanes) struct Pad {
    pub planes: usize,
    pub height: usize,
    pub width: usize,
    pub border: usize,
}

impl Pad {
    /// Pairs of rows: where they begin in the maps, and in those with the border.
    fn rows(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Pad { planes, height, width, border } = *self;
        let [full_height, full_width] = [height, width].map(|len| len + 2 * border);
        (0..planes * height).map(move |row| {
            let (plane, y) = (row / height, row % height);
            (row * width, (plane * full_height + y + border) * full_width + border)
        })
    }

    /// Writes the maps inside the border, which is never written to.
    pub fn forward(&self, input: &[Vector], output: &mut [Vector]) {
        for (from, to) in self.rows() {
            output[to..][..self.width].copy_from_slice(&input[from..][..self.width]);
        }
    }

    /// The gradient of the maps.
    pub fn backward(&self, gradient: &[Vector], target: &mut [Vector]) {
        for (to, from) in self.rows() {
            target[to..][..self.width].copy_from_slice(&gradient[from..][..self.width]);
        }
    }
}
