//! Texts out of files as they may stand in messages.

/// Quoted, with control characters escaped, and cut when it is absurdly long.
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 120;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_names_are_one_short_line_of_printable_characters() {
        assert_eq!(quoted("fc.weight"), "\"fc.weight\"");
        assert_eq!(quoted("a\n\x1b[31mb\0"), r#""a\n\u{1b}[31mb\0""#);
        assert_eq!(quoted(&"ü".repeat(200)).chars().count(), 120 + 5);
    }
}
