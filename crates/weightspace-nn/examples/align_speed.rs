//! Seconds of the alignment of one network to another, as one JSON document.
//!
//! ```text
//! cargo run --release -p weightspace-nn --example align_speed -- A B [SEARCHES [START [SEED]]]
//! ```
//!
//! Each search prepares the reference and aligns from scratch, with another seed; the first does not count.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use weightspace_core::Checkpoint;
use weightspace_core::align::{AlignOptions, Aligner, Start};
use weightspace_nn::arch;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [a, b, rest @ ..] = &arguments[..] else {
        return Err("usage: align_speed A B [SEARCHES [START [SEED]]]".into());
    };
    let searches: u64 = rest.first().map_or(Ok(5), |text| text.parse())?;
    let start = match rest.get(1).map_or("best", String::as_str) {
        "identity" => Start::Identity,
        "propagated" => Start::Propagated,
        _ => Start::Best,
    };
    let first: u64 = rest.get(2).map_or(Ok(0), |text| text.parse())?;
    let read = |path: &String| Checkpoint::open(Path::new(path))?.state_dict();
    let (a, b) = (read(a)?, read(b)?);
    let groups = arch::recognise(&a.infos())?.permutation_groups();
    let (mut seconds, mut sweeps, mut distance) = (Vec::new(), Vec::new(), 0.0);
    for seed in first..=first + searches {
        let time = Instant::now();
        let options = AlignOptions { start, seed, ..AlignOptions::default() };
        let found = Aligner::new(&groups, &a, options)?.align(&b)?;
        if seed > first {
            seconds.push(time.elapsed().as_secs_f64());
            sweeps.push(found.sweeps);
            distance = found.after.total;
        }
    }
    println!(
        "{}",
        serde_json::json!({ "seconds": seconds, "sweeps": sweeps, "distance": distance })
    );
    Ok(())
}
