//! Prints how long each basis takes: `basis_time D K REPEATS [WHICH]`, milliseconds as JSON lines
//! (medians); WHICH is a part of the name of basis and instruction set, as `dense-avx512`.
//! `benches/pytorch_basis.py` runs it beside PyTorch.

use std::time::Instant;

use weightspace_core::InstructionSet;
use weightspace_core::basis::{BASES, Matrix};
use weightspace_core::random::Key;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<usize> = arguments.iter().map_while(|a| a.parse().ok()).collect();
    let &[rows, columns, repeats] = &numbers[..] else {
        eprintln!("usage: basis_time D K REPEATS [WHICH]");
        std::process::exit(2);
    };
    let which = arguments.get(3).map_or("", String::as_str);
    let (key, segment) = (Key::for_purpose(1, "subspace"), 0);
    for set in InstructionSet::available() {
        let wanted = |name| format!("{name}-{set:?}").to_lowercase().contains(which);
        for info in BASES.iter().filter(|info| wanted(info.name)) {
            let matrix = Matrix { basis: info.basis, key, segment, rows, columns };
            let coefficients: Vec<f32> = (0..columns).map(|j| (j % 17) as f32 - 8.0).collect();
            let mut weights = vec![0.0; rows];
            let gradient: Vec<f32> = (0..rows).map(|i| (i % 13) as f32 - 6.0).collect();
            let mut working = gradient.clone();
            let mut pulled = vec![0.0; columns];
            let expand = median(repeats, || {
                matrix.expand_with(set, 0..columns, &coefficients, 0..rows, &mut weights);
            });
            let pullback = median(repeats, || {
                working.copy_from_slice(&gradient);
                matrix.pullback_with(set, 0..columns, &mut working, &mut pulled);
            });
            println!(
                "{{\"basis\": \"{}\", \"set\": \"{set:?}\", \"expand_ms\": {expand:.4}, \
                 \"pullback_ms\": {pullback:.4}}}",
                info.name
            );
        }
    }
}

fn median(repeats: usize, mut work: impl FnMut()) -> f64 {
    work();
    let mut times: Vec<f64> = (0..repeats.max(1))
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
