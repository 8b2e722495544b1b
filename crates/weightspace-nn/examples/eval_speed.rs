//! Times the evaluation of a checkpoint on CIFAR-10: `eval_speed CHECKPOINT DATA_DIR [REPEATS]`.

use std::path::Path;
use std::time::Instant;

use weightspace_nn::data::{self, Split};
use weightspace_nn::{Engine, arch, evaluate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let checkpoint = weightspace_core::Checkpoint::open(Path::new(&arguments[1]))?;
    let net = arch::recognise(checkpoint.tensors())?;
    let engine = Engine::new(&net, &checkpoint.state_dict()?)?;
    let dataset = data::open("cifar10", Some(Path::new(&arguments[2])), Split::Test)?;
    let repeats = arguments.get(3).map_or(1, |n| n.parse().unwrap_or(1));
    for _ in 0..repeats {
        let start = Instant::now();
        let result = evaluate::accuracy(&engine, &dataset, None, &"imagenet".parse()?, &|_| ())?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{}/{} in {seconds:.3} s", result.correct, result.total);
    }
    Ok(())
}
