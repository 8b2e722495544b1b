//! Bits per value of the entropy coder on the weights of a checkpoint, beside the order-0 entropy
//! of each tensor (which an ideal coder reaches that is told all frequencies for free).
//!
//! ```text
//! cargo run --release --example entropy_rate -- resnet20-12fca82f.th [b8 s0.5 ...]
//! ```
//!
//! `bN` quantises to N bits with the largest magnitude of each output channel, `sC` with one step
//! of C times the root mean square of each tensor.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use weightspace_core::container::{self, Coding, Header, Quantized, SectionKind};
use weightspace_core::{Checkpoint, WspError, WspFile};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: entropy_rate CHECKPOINT [b8 s0.5 ...]")?;
    let mut settings: Vec<String> = arguments.collect();
    if settings.is_empty() {
        settings = "b2 b3 b4 b5 b6 b8 s2 s1.5 s1 s0.5".split(' ').map(Into::into).collect();
    }
    let checkpoint = Checkpoint::open(Path::new(&path))?;
    println!("setting   values      order-0   coded     difference  encode s  decode s");
    for setting in settings {
        let tensors = quantise_all(&checkpoint, &setting)?;
        report(&setting, &tensors)?;
    }
    Ok(())
}

/// The weights of at least two dimensions, quantised as `setting` says.
fn quantise_all(
    checkpoint: &Checkpoint,
    setting: &str,
) -> Result<Vec<(String, Coding)>, Box<dyn Error>> {
    let mut tensors = Vec::new();
    for info in checkpoint.tensors() {
        if info.shape.len() < 2 || !info.dtype.is_float() {
            continue;
        }
        let tensor = checkpoint.read_named(&info.name)?;
        let weights = tensor.to_f32();
        let row = weights.len() / info.shape[0];
        let values: Vec<i32> = match setting.split_at(1) {
            ("b", bits) => {
                let levels = ((1 << (bits.parse::<u32>()? - 1)) - 1) as f32;
                weights.chunks(row).flat_map(|row| by_largest(row, levels)).collect()
            }
            ("s", factor) => {
                let squares: f64 = weights.iter().map(|&w| f64::from(w).powi(2)).sum();
                let rms = (squares / weights.len() as f64).sqrt() as f32;
                let step = rms * factor.parse::<f32>()?;
                weights.iter().map(|w| (w / step).round() as i32).collect()
            }
            _ => return Err(format!("{setting}: expected b8 or s0.5").into()),
        };
        let shape = info.shape.clone();
        let quantized = Quantized { shape, scale: 1.0, channel_exponents: None, values };
        tensors.push((info.name.clone(), Coding::Quantized(quantized)));
    }
    Ok(tensors)
}

fn by_largest(row: &[f32], levels: f32) -> Vec<i32> {
    let largest = row.iter().fold(0f32, |largest, w| largest.max(w.abs()));
    let step = if largest > 0.0 { largest / levels } else { 1.0 };
    row.iter().map(|w| (w / step).round() as i32).collect()
}

fn report(setting: &str, tensors: &[(String, Coding)]) -> Result<(), WspError> {
    let mut count = 0;
    let mut ideal = 0.0;
    for (_, coding) in tensors {
        if let Coding::Quantized(quantized) = coding {
            count += quantized.values.len();
            ideal += order_0_bits(&quantized.values);
        }
    }
    let start = Instant::now();
    let bytes = container::encode(&Header::default(), tensors)?;
    let encode = start.elapsed().as_secs_f64();
    let file = WspFile::from_bytes("memory", bytes)?;
    let start = Instant::now();
    file.decode_each(|_, _| Ok::<_, WspError>(()))?;
    let decode = start.elapsed().as_secs_f64();
    let symbols = file.sections().iter().filter(|s| s.kind == SectionKind::Symbols);
    let coded = 8.0 * symbols.map(|s| s.range.len() as f64).sum::<f64>() / count as f64;
    let ideal = ideal / count as f64;
    let difference = 100.0 * (coded / ideal - 1.0);
    println!(
        "{setting:8}{count:9}{ideal:12.4}{coded:9.4}{difference:+12.2} %{encode:10.3}{decode:10.3}"
    );
    Ok(())
}

/// Entropy of the values' frequencies, times their number.
fn order_0_bits(values: &[i32]) -> f64 {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_insert(0usize) += 1;
    }
    let total = values.len() as f64;
    counts.values().map(|&n| n as f64 * (total / n as f64).log2()).sum()
}
