#![no_main]

use std::path::Path;

use weightspace::sane::SaneModel;
use weightspace_core::Checkpoint;

// The configuration, a zero byte, and the weights.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let Ok(config) = std::str::from_utf8(&bytes[..end]) else { return };
    let weights = bytes.get(end + 1..).unwrap_or(&[]).to_vec();
    let open = || Checkpoint::from_bytes("model.safetensors", weights);
    let _ = SaneModel::from_parts(Path::new("config.json"), config, open);
});
