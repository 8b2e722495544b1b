//! Text for people: errors in one line, names from files made harmless, numbers with units.

use weightspace_nn::evaluate::Evaluation;

/// A hash or key as hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An error with its causes in one line. Causes that the message before already quotes are left
/// out: library errors often name their source in their own text.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    printable(&line)
}

/// Text that a terminal shows as it is: control characters, which a file may have put into its
/// names, are escaped.
pub fn printable(text: &str) -> String {
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().collect(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect()
}

/// A shape as in listings: `16x3x3x3`, or `scalar`.
pub fn shape(dimensions: &[usize]) -> String {
    if dimensions.is_empty() {
        return "scalar".to_owned();
    }
    dimensions.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// A size in decimal units, three digits at least: `999 B`, `1.23 kB`, `91.7 MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// An accuracy as it is quoted: `accuracy 91.73 % (9173/10000)`.
pub fn accuracy(result: &Evaluation) -> String {
    let percent = 100.0 * result.accuracy();
    format!("accuracy {percent:.2} % ({}/{})", result.correct, result.total)
}

/// A count with commas between groups of three digits: `269,722`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn errors_are_one_line_without_repetition() {
        #[derive(Debug, thiserror::Error)]
        #[error("a.pt: {source}")]
        struct Quoting {
            source: std::io::Error,
        }
        let source = std::io::Error::other("no\nsuch");
        let error = Err::<(), _>(Quoting { source }).context("cannot compare").unwrap_err();
        assert_eq!(one_line(&error), r"cannot compare: a.pt: no\nsuch");
    }

    #[test]
    fn sizes_keep_three_digits() {
        let sizes = [0, 999, 1000, 9994, 9995, 99_949, 99_950, 999_499, 999_500, 20_000_000_000];
        let texts = sizes.map(bytes);
        let expected = [
            "0 B", "999 B", "1.00 kB", "9.99 kB", "10.0 kB", "99.9 kB", "100 kB", "999 kB",
            "1.00 MB", "20.0 GB",
        ];
        assert_eq!(texts, expected);
        assert_eq!(bytes(u64::MAX), "18447 PB");
    }

    #[test]
    fn counts_and_shapes() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(shape(&[]), "scalar");
        assert_eq!(shape(&[16, 3, 3]), "16x3x3");
        assert_eq!(printable("a\u{1b}[31m\nb"), r"a\u{1b}[31m\nb");
    }
}
