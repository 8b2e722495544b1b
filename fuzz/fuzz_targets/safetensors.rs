#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = weightspace_core::Checkpoint::from_bytes("safetensors", bytes.to_vec())
        .and_then(|c| c.state_dict());
});
