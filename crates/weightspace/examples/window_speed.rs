//! Windows per second of a ResNet-18 whose weights are in a mapped file, as one JSON document.
//!
//! ```text
//! cargo run --release -p weightspace --example window_speed -- FILE.safetensors [WINDOWS [WINDOW]]
//! ```
//!
//! Each window is at a random place of a model whose units are permuted at random anew; one thread. Without a file of
//! that name one is made: an untrained ResNet-18 for CIFAR-10.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use weightspace::sane::{Arranger, Standardisation, TokenConfig, TokenLayout, Windows};
use weightspace::zoo::ModelWeights;
use weightspace_core::Checkpoint;
use weightspace_core::checkpoint::write_safetensors;
use weightspace_core::random::{Key, Stream};
use weightspace_nn::init::Initialisation;
use weightspace_nn::{ModelState, arch};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, rest @ ..] = &arguments[..] else {
        return Err("usage: window_speed FILE.safetensors [WINDOWS [WINDOW]]".into());
    };
    let number = |at: usize, otherwise: usize| rest.get(at).map_or(Ok(otherwise), |t| t.parse());
    let (count, window) = (number(0, 2000)?, number(1, 256)?);
    let path = Path::new(file);
    let net = arch::build("resnet18-cifar", &Default::default())?;
    if !path.exists() {
        let state = ModelState::initial(&net, Initialisation::default(), 0);
        write_safetensors(path, &state.to_state_dict(&net), &BTreeMap::new())?;
    }
    let infos = Checkpoint::open(path)?.tensors().to_vec();
    let layout = TokenLayout::new(&infos, TokenConfig { size: 288, normalisations: false })?;
    let standardisation = Standardisation::none(layout.layers().len());
    let arranger = Arranger::new(&layout, net.permutation_groups());
    let mut windows = Windows::new(&layout, &standardisation);
    let model = ModelWeights::of_checkpoint(Checkpoint::open(path)?);
    let mut tokens = vec![0.0; window * layout.token_size()];
    let mut starts = Stream::new(Key::from_seed(1), 0);
    let (mut sum, mut start) = (0.0, Instant::now());
    for number in 0..=count {
        // The first does not count.
        if number == 1 {
            start = Instant::now();
        }
        let first = starts.below((layout.token_count() - window + 1) as u32) as usize;
        let range = first..first + window;
        let key = Key::from_seed(number as u64);
        let arranged = arranger.shuffled(&layout, layout.layers_of(&range), key, None);
        windows.read(&model, &arranged, range, &mut tokens)?;
        sum += f64::from(tokens[0]);
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}",
        serde_json::json!({
            "windows_per_second": count as f64 / seconds,
            "tokens": layout.token_count(),
            "window": window,
            "sum": sum,
        })
    );
    Ok(())
}
