//! Times the training of sixteen models in SIMD lanes on one thread, and prints one JSON document:
//! steps and model-images (images times models) a second. `processor_seconds`, the mean of a step without
//! the time in which other programs had the core, is what can be compared on a busy machine.
//!
//! cargo run --release -p weightspace-nn --example lane_speed -- [--arch zoo-cnn] [--batch 10] [--seconds 3]
//! [--shared]

use std::time::Instant;

use serde_json::json;
use weightspace_nn::arch::{self, ArchOptions};
use weightspace_nn::data::{Dataset, Pixels, Preprocessing};
use weightspace_nn::init::{Initialisation, initialise};
use weightspace_nn::lanes::{ImageOrder, LANES, LaneImages, LaneModel, LaneTrainer};
use weightspace_nn::net::Shape;
use weightspace_nn::optim::{Adam, OptimizerConfig};
use weightspace_nn::schedule::Schedule;
use weightspace_nn::train::TrainConfig;

/// Images of the data set: about those of a zoo's epoch, in whole batches of 10 and of 32.
const IMAGES: usize = 9_920;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map(|at| arguments[at + 1].as_str())
    };
    let arch = option("--arch").unwrap_or("zoo-cnn");
    let batch: usize = option("--batch").map_or(10, |text| text.parse().expect("a number"));
    let seconds: f64 = option("--seconds").map_or(3.0, |text| text.parse().expect("a number"));
    let shared = arguments.iter().any(|argument| argument == "--shared");

    let net = arch::build(arch, &ArchOptions::default()).expect("an architecture");
    let Shape::Maps { channels, height, width } = net.input_shape() else {
        panic!("{arch} does not read images")
    };
    let shape = [channels, height, width];
    let images = images(shape, net.class_count());
    let order = if shared { ImageOrder::Shared(0) } else { ImageOrder::Own };
    let optimizer = OptimizerConfig::Adam(Adam { learning_rate: 3e-4, ..Adam::default() });
    let models = (0..LANES as u64).map(|seed| LaneModel {
        net: net.clone(),
        config: TrainConfig {
            batch,
            seed,
            epochs: u32::MAX,
            optimizer,
            schedule: Schedule::default(),
            ..TrainConfig::default()
        },
        weights: initialise(&net, Initialisation::Uniform, seed),
    });
    let mut trainer = LaneTrainer::new(models.collect(), &images, order).expect("a group");
    for _ in 0..20 {
        trainer.step();
    }
    let (mut samples, start, busy) = (Vec::new(), Instant::now(), processor_seconds());
    while start.elapsed().as_secs_f64() < seconds {
        let start = Instant::now();
        trainer.step();
        samples.push(start.elapsed().as_secs_f64());
    }
    let busy =
        processor_seconds().zip(busy).map(|(end, start)| (end - start) / samples.len() as f64);
    samples.sort_by(f64::total_cmp);
    let (median, fastest) = (samples[samples.len() / 2], samples[0]);
    let document = json!({
        "work": arch, "engine": "weightspace", "batch": batch, "models": LANES, "shared": shared,
        "steps": samples.len(), "seconds": median, "fastest": fastest, "processor_seconds": busy,
        "steps_per_second": 1.0 / median,
        "model_images_per_second": (LANES * batch) as f64 / median,
    });
    println!("{document}");
}

/// Time for which this thread has been running, where the system tells it.
fn processor_seconds() -> Option<f64> {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1e-9)
}

/// Images of noise.
fn images([channels, height, width]: [usize; 3], classes: usize) -> LaneImages {
    let len = channels * height * width;
    let byte = |i: usize| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
    let pixels = Pixels::U8((0..IMAGES * len).map(byte).collect());
    let labels = (0..IMAGES).map(|i| (i * 7 % classes) as u16).collect();
    let names = (0..classes).map(|i| i.to_string()).collect();
    let dataset = Dataset::new("noise", [channels, height, width], pixels, labels, names);
    LaneImages::new(&dataset.expect("a data set"), &Preprocessing::unit(), None).expect("images")
}
