//! Points that others measured, from CSV.

use std::io::Read;

use serde::Deserialize;

use super::Point;

/// Why points cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeersError {
    /// The text is not CSV with the columns that are needed.
    #[error("not a table with the columns method, bytes and accuracy: {0}")]
    Csv(#[from] csv::Error),
    /// An accuracy is no fraction.
    #[error("line {line}: the accuracy {accuracy} is not a fraction from 0 to 1")]
    Accuracy {
        /// Where it stands, from 1.
        line: u64,
        /// What stands there.
        accuracy: f64,
    },
    /// A file of no bytes.
    #[error("line {line}: no bytes")]
    Bytes {
        /// Where it stands, from 1.
        line: u64,
    },
}

#[derive(Deserialize)]
struct Row {
    method: String,
    #[serde(default)]
    settings: String,
    bytes: u64,
    accuracy: f64,
}

/// Points from CSV with the columns `method`, `bytes` (of the whole file), `accuracy` (a fraction) and,
/// if it is there, `settings`; other columns and lines that begin with `#` are passed over.
///
/// # Errors
/// If a column is missing or a value is not what it should be.
pub fn read_peers(csv: impl Read) -> Result<Vec<Point>, PeersError> {
    let mut builder = csv::ReaderBuilder::new();
    let mut reader = builder.comment(Some(b'#')).trim(csv::Trim::All).from_reader(csv);
    let headers = reader.headers()?.clone();
    let mut points = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record)? {
        let line = record.position().map_or(0, csv::Position::line);
        let Row { method, settings, bytes, accuracy } = record.deserialize(Some(&headers))?;
        if !(0.0..=1.0).contains(&accuracy) {
            return Err(PeersError::Accuracy { line, accuracy });
        }
        if bytes == 0 {
            return Err(PeersError::Bytes { line });
        }
        points.push(Point { method, settings, bytes, accuracy });
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name() {
        let csv =
            "# from elsewhere\naccuracy, bytes,x,method\n0.5,10,,one\n# more\n0.25,20,7,\"a, b\"\n";
        let points = read_peers(csv.as_bytes()).unwrap();
        let point = |method: &str, bytes, accuracy| Point {
            method: method.into(),
            settings: String::new(),
            bytes,
            accuracy,
        };
        assert_eq!(points, [point("one", 10, 0.5), point("a, b", 20, 0.25)]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let refused = |csv: &[u8], reason: &str| {
            let message = read_peers(csv).unwrap_err().to_string();
            assert!(message.contains(reason) && !message.contains('\n'), "{message}");
        };
        refused(b"method,bytes\na,1\n", "accuracy");
        refused(b"method,bytes,accuracy\na,1,91.7\n", "line 2: the accuracy 91.7");
        refused(b"method,bytes,accuracy\na,1,NaN\n", "not a fraction");
        refused(b"method,bytes,accuracy\na,0,0.5\n", "line 2: no bytes");
        refused(b"method,bytes,accuracy\na,many,0.5\n", "bytes");
        refused(b"method,bytes,accuracy\na,1\n", "line: 2");
        refused(b"method,bytes,accuracy\n\xff\xfe,1,0.5\n", "UTF-8");
    }
}
