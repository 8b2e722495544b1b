#![no_main]

// The checksum is made to fit, or else nothing would get beyond it.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = weightspace_core::WspFile::from_bytes_unchecked("wsp", bytes.to_vec())
        .and_then(|file| file.state_dict());
});
