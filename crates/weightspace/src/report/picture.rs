//! Charts as SVG and PNG.

use std::sync::Once;

use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::ReportError;
use super::chart::{Chart, Drawn, FONT_FAMILY, SIZE};

/// Letters of Latin alphabets, digits and signs; its licence is beside it.
static FONT: &[u8] = include_bytes!("font/DejaVuSans.ttf");

/// Pixels of a PNG for each of the SVG's.
const SCALE: u32 = 2;

/// Pixels that are drawn, in each direction, for each pixel of a PNG: their mean is smooth.
const SAMPLES: u32 = 2;

impl Chart {
    /// The picture as an SVG element, in colours for light ground.
    ///
    /// # Errors
    /// If the plotting library cannot draw it.
    pub fn to_svg(&self) -> Result<String, ReportError> {
        let mut svg = String::new();
        self.with_font(|| {
            self.draw(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), 1)
        })?;
        Ok(svg)
    }

    /// The picture as an SVG file, on a ground of its own: legible wherever it is shown.
    ///
    /// # Errors
    /// If the plotting library cannot draw it.
    pub fn to_svg_file(&self) -> Result<String, ReportError> {
        let mut svg = String::new();
        self.with_font(|| {
            let picture = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            picture.fill(&WHITE)?;
            self.draw(&picture, 1)
        })?;
        Ok(svg)
    }

    /// The picture as a PNG file of twice the SVG's size.
    ///
    /// # Errors
    /// If the plotting library cannot draw it.
    pub fn to_png(&self) -> Result<Vec<u8>, ReportError> {
        let scale = SCALE * SAMPLES;
        let size = (SIZE.0 * scale, SIZE.1 * scale);
        let mut pixels = vec![255; (size.0 * size.1 * 3) as usize];
        let mut file = Vec::new();
        self.with_font(|| {
            let backend = BitMapBackend::with_buffer(&mut pixels, size);
            self.draw(&backend.into_drawing_area(), scale as i32)?;
            let mut encoder = png::Encoder::new(&mut file, SIZE.0 * SCALE, SIZE.1 * SCALE);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_depth(png::BitDepth::Eight);
            encoder.set_compression(png::Compression::High);
            let mut writer = encoder.write_header()?;
            writer.write_image_data(&means(&pixels, size.0 as usize, SAMPLES as usize))?;
            Ok(writer.finish()?)
        })?;
        Ok(file)
    }

    /// Draws with the font that the program brings along: the same picture everywhere.
    fn with_font(&self, draw: impl FnOnce() -> Drawn) -> Result<(), ReportError> {
        static REGISTERED: Once = Once::new();
        REGISTERED.call_once(|| {
            // A font that could not be read would fail whatever is drawn with it.
            let _ = register_font(FONT_FAMILY, FontStyle::Normal, FONT);
        });
        draw().map_err(|error| ReportError::Chart {
            name: self.name.clone(),
            problem: error.to_string(),
        })
    }
}

/// Means of squares of `side` pixels of three bytes; `width` is that of the whole picture.
fn means(pixels: &[u8], width: usize, side: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(pixels.len() / (side * side));
    for rows in pixels.chunks_exact(3 * width * side) {
        for x in 0..width / side {
            for channel in 0..3 {
                let at = |i: usize| rows[3 * (i / side * width + x * side + i % side) + channel];
                let sum: usize = (0..side * side).map(|i| usize::from(at(i))).sum();
                out.push((sum / (side * side)) as u8);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Axis, Level, Series};

    fn chart() -> Chart {
        let axis = |label: &str| Axis { label: label.into(), ..Axis::default() };
        Chart {
            name: "picture".into(),
            x: axis("across"),
            y: axis("up"),
            series: vec![Series { name: "one".into(), points: vec![(1.0, 1.0), (2.0, 3.0)] }],
            levels: vec![Level { name: "level".into(), y: 2.0 }],
            ..Chart::default()
        }
    }

    #[test]
    fn a_png_shows_lines_and_letters_on_white() {
        let file = chart().to_png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (SIZE.0 * SCALE, SIZE.1 * SCALE));
        let count = |wanted: fn(&[u8]) -> bool| pixels.chunks(3).filter(|p| wanted(p)).count();
        assert!(count(|p| p == [255; 3]) > pixels.len() / 3 / 2);
        assert!(count(|p| p == [0x00, 0x72, 0xB2]) > 1_000, "the series");
        assert!(count(|p| p[0] < 0x80 && p[0].abs_diff(p[2]) < 0x20) > 1_000, "letters");
        assert!(file.len() < 100_000, "{}", file.len());
    }

    #[test]
    fn an_svg_file_brings_its_ground() {
        let chart = chart();
        assert!(!chart.to_svg().unwrap().contains("#FFFFFF"));
        assert!(chart.to_svg_file().unwrap().contains("#FFFFFF"));
    }

    #[test]
    fn means_are_of_squares() {
        let row = [0, 0, 0, 4, 8, 12, 1, 1, 1, 1, 1, 1];
        let below = [4, 8, 12, 8, 16, 24, 3, 3, 3, 3, 3, 3];
        assert_eq!(means(&[row, below].concat(), 4, 2), [4, 8, 12, 2, 2, 2]);
    }
}
