//! What the demo finds: the document, and the table in the terminal.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use weightspace_nn::kernels::simd::InstructionSet;

use super::population::Population;
use crate::cli::table::{Align, Table};
use crate::cli::{Global, text};

/// Everything that was found; `demo.json`.
#[derive(Serialize)]
pub struct Results {
    /// Every file was verified.
    pub ok: bool,
    /// Version of this program.
    pub version: &'static str,
    /// Seed of everything that is random.
    pub seed: u64,
    /// Threads, on whose number the trained weights depend.
    pub threads: usize,
    /// Instructions that the network was trained with, on which the trained weights depend, too.
    pub instruction_set: String,
    /// The trained network.
    pub original: Original,
    /// The compressed files, in the order of the curves.
    pub points: Vec<Point>,
    /// A population of networks, with `--full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub population: Option<Population>,
    /// Time of the whole demo.
    pub seconds: f64,
}

/// The trained network.
#[derive(Serialize)]
pub struct Original {
    /// Name of its file in the folder.
    pub file: &'static str,
    /// Architecture.
    pub arch: &'static str,
    /// Data set.
    pub data: &'static str,
    /// What is done to images before the network sees them.
    pub preprocessing: &'static str,
    /// Number of weights.
    pub parameters: usize,
    /// Size of the whole file.
    pub bytes: u64,
    /// Fraction of right test images.
    pub accuracy: f64,
    /// Number of test images.
    pub test_images: usize,
    /// Passes over the training images.
    pub epochs: u32,
    /// Time of training.
    pub seconds: f64,
}

/// A compressed file.
#[derive(Serialize)]
pub struct Point {
    /// Name of the curve on which it lies.
    pub curve: &'static str,
    /// Method.
    pub method: &'static str,
    /// Other options of `weightspace compress`, or of `weightspace train`.
    pub settings: String,
    /// Name of the file in the folder.
    pub file: String,
    /// Size of the whole file.
    pub bytes: u64,
    /// How many times smaller than the original's file.
    pub ratio: f64,
    /// Fraction of right test images.
    pub accuracy: f64,
    /// It could be decoded, fits the architecture and was made from the original.
    pub verified: bool,
    /// Time of compression, or of training.
    pub seconds: f64,
}

impl Original {
    /// The options of `compress` and `verify` that say which images the network reads.
    pub fn compress_options(&self) -> String {
        format!("--data {} --preprocessing {}", self.data, self.preprocessing)
    }
}

impl Results {
    /// Puts the parts together with what is true of this run.
    pub fn new(
        original: Original,
        points: Vec<Point>,
        population: Option<Population>,
        seconds: f64,
        global: &Global,
    ) -> Self {
        Results {
            ok: points.iter().all(|point| point.verified),
            version: env!("CARGO_PKG_VERSION"),
            seed: global.seed(),
            threads: rayon::current_num_threads(),
            instruction_set: format!("{:?}", InstructionSet::best()).to_lowercase(),
            original,
            points,
            population,
            seconds,
        }
    }

    /// Writes the table for people; `page` is where to look next.
    pub fn write(&self, page: &Path, out: &mut dyn Write) -> io::Result<()> {
        let Original { arch, data, seconds, .. } = &self.original;
        writeln!(out, "{arch}, trained on {data} in {seconds:.1} s, and what is left of it:\n")?;
        let left = |title| (title, Align::Left);
        let right = |title| (title, Align::Right);
        let mut table = Table::new([
            left("method"),
            left("settings"),
            right("bytes"),
            right("smaller"),
            right("accuracy"),
            left("verified"),
        ]);
        let bytes = text::grouped(self.original.bytes);
        let accuracy = percent(self.original.accuracy);
        table.push([
            "original".into(),
            String::new(),
            bytes,
            String::new(),
            accuracy,
            String::new(),
        ]);
        for point in &self.points {
            table.push(point.cells());
        }
        table.write(out, "")?;
        if let Some(population) = &self.population {
            population.write(out)?;
        }
        let page = text::printable(&page.display().to_string());
        writeln!(out, "\n{page} shows the curves; {:.1} s in all", self.seconds)
    }
}

impl Point {
    /// Method, settings, bytes, ratio, accuracy, and whether it was verified.
    pub fn cells(&self) -> [String; 6] {
        [
            self.method.to_owned(),
            self.settings.clone(),
            text::grouped(self.bytes),
            format!("{:.1} x", self.ratio),
            percent(self.accuracy),
            if self.verified { "yes" } else { "NO" }.to_owned(),
        ]
    }
}

/// A fraction as a percentage.
pub fn percent(fraction: f64) -> String {
    format!("{:.1} %", 100.0 * fraction)
}
