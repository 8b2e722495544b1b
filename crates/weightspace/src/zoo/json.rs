//! JSON as Python writes it.

use std::borrow::Cow;

/// Numbers that JSON does not have, but Python's `json` writes.
const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// The text with bare `NaN`, `Infinity` and `-Infinity` put into quotes.
pub(super) fn quote_numbers(text: &str) -> Cow<'_, str> {
    if !text.contains("NaN") && !text.contains("Infinity") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let (mut rest, mut in_string) = (text, false);
    while let Some(c) = rest.chars().next() {
        let word = WORDS.into_iter().find(|word| !in_string && rest.starts_with(word));
        let length = match (c, word) {
            (_, Some(word)) => {
                out.extend(["\"", word, "\""]);
                rest = &rest[word.len()..];
                continue;
            }
            ('\\', None) if in_string => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            ('"', None) => {
                in_string = !in_string;
                1
            }
            _ => c.len_utf8(),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    Cow::Owned(out)
}

/// A number that may be written as one of the quoted words; nothing for everything else.
pub(super) fn number(value: &serde_json::Value) -> Option<f64> {
    match value {
        serde_json::Value::Number(number) => number.as_f64(),
        serde_json::Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "nan" => Some(f64::NAN),
            "inf" | "infinity" => Some(f64::INFINITY),
            "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
            text => text.parse().ok(),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_words_are_quoted() {
        let text = r#"{"NaN": [NaN, -Infinity,Infinity], "a\"NaN\\": "Infinity é", "b": 1}"#;
        let quoted = quote_numbers(text);
        assert_eq!(
            quoted,
            r#"{"NaN": ["NaN", "-Infinity","Infinity"], "a\"NaN\\": "Infinity é", "b": 1}"#
        );
        let value: serde_json::Value = serde_json::from_str(&quoted).unwrap();
        assert!(number(&value["NaN"][0]).unwrap().is_nan());
        assert_eq!(number(&value["NaN"][1]), Some(f64::NEG_INFINITY));
        assert_eq!(number(&value["b"]), Some(1.0));
        assert_eq!(number(&serde_json::Value::Null), None);
        assert!(matches!(quote_numbers("{}"), Cow::Borrowed(_)));
        quote_numbers("\"NaN\\");
    }
}
