#![no_main]

use weightspace_core::container::Method;
use weightspace_core::random::Key;
use weightspace_core::{DecodeOptions, StateDict, WspError, WspFile};

/// Decodes what does not stand for very many weights: little may stand for many but where they are stored.
fn decode(file: WspFile) -> Result<(), WspError> {
    let base = StateDict::new();
    let options = DecodeOptions { base: Some(&base), key: Some(Key([0; 32])), planes: None };
    let decoder = file.decoder(options)?;
    let weights: usize = file.tensors().iter().map(|tensor| tensor.element_count()).sum();
    let most = match file.header().method {
        Method::Quantize => usize::MAX,
        Method::Predictor => 500,
        _ => 10_000,
    };
    if weights <= most {
        decoder.state_dict()?;
    }
    Ok(())
}

// The checksum and the checks are made to fit, or else nothing would get beyond them.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = WspFile::from_bytes_unchecked("wsp", bytes.to_vec()).and_then(decode);
    let _ = WspFile::prefix_from_bytes("wsp", bytes.to_vec()).and_then(decode);
});
