#![no_main]

use weightspace::zoo::Population;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(zoo) = Population::from_bytes("zoo", bytes.to_vec()) else { return };
    for index in 0..zoo.len().min(4) {
        let Ok(model) = zoo.model(index) else { continue };
        for &epoch in model.epochs.iter().take(2) {
            let _ = zoo.weights(index, epoch);
        }
    }
});
