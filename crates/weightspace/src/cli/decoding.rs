//! What decoding a `.wsp` file may need beside it, as arguments.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use weightspace_core::random::Key;

/// Options of commands that decode a `.wsp` file.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of files of the method subspace")]
pub struct DecodeArgs {
    /// Model that a difference is added to, for files that name one
    #[arg(long, value_name = "FILE")]
    pub base: Option<PathBuf>,
    /// Key of 32 bytes, or of 64 hexadecimal digits, for files that do not hold theirs
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Use the bit planes of coefficients within this share of the file, also of one that is cut
    #[arg(long, value_name = "P", value_parser = share)]
    pub fraction: Option<f64>,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("not a share above 0 and up to 1".to_owned()),
    }
}

/// The key in a file.
pub fn read_key(path: &Path) -> anyhow::Result<Key> {
    let shown = || path.display().to_string();
    let size = fs::metadata(path).with_context(shown)?.len();
    if size > 128 {
        bail!("{}: {size} bytes, expected a key of 32 bytes or 64 hexadecimal digits", shown());
    }
    let bytes = fs::read(path).with_context(shown)?;
    if let Ok(key) = <[u8; 32]>::try_from(&bytes[..]) {
        return Ok(Key(key));
    }
    let digits: Option<Vec<u32>> =
        bytes.trim_ascii().iter().map(|&byte| char::from(byte).to_digit(16)).collect();
    match digits {
        Some(digits) if digits.len() == 64 => {
            Ok(Key(std::array::from_fn(|i| (digits[2 * i] << 4 | digits[2 * i + 1]) as u8)))
        }
        _ => bail!(
            "{}: {} bytes, expected a key of 32 bytes or 64 hexadecimal digits",
            shown(),
            bytes.len()
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn key(bytes: &[u8]) -> anyhow::Result<Key> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        read_key(file.path())
    }

    #[test]
    fn keys_are_bytes_or_digits() {
        let digits = "00ff".to_owned() + &"1a".repeat(30);
        let expected = key(&[&[0, 0xff][..], &[0x1a; 30]].concat()).unwrap();
        assert_eq!(key(digits.as_bytes()).unwrap(), expected);
        assert_eq!(key(format!("{digits}\n").as_bytes()).unwrap(), expected);
        for wrong in ["", "12", &"xy".repeat(32), &"1".repeat(63), &"1".repeat(1000)] {
            let error = key(wrong.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("expected a key of 32 bytes"), "{error}");
        }
    }
}
