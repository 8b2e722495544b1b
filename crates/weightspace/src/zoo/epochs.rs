//! Which epochs of training a population has weights of.

use std::collections::BTreeSet;

use super::{Population, ZooError};

/// All epochs of which any model has weights, ascending. Models whose files are damaged count for none.
pub fn known(zoo: &Population) -> Vec<u32> {
    let models = (0..zoo.len()).filter_map(|index| zoo.model(index).ok());
    let epochs: BTreeSet<u32> = models.flat_map(|model| model.epochs).collect();
    epochs.into_iter().collect()
}

/// Makes sure that of every wanted epoch some model has weights.
///
/// # Errors
/// Names the first of which none has, and those that there are.
pub fn check(zoo: &Population, wanted: &[u32]) -> Result<(), ZooError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let known = known(zoo);
    match wanted.iter().find(|epoch| !known.contains(epoch)) {
        None => Ok(()),
        Some(epoch) => {
            let reason =
                format!("no model has weights of epoch {epoch}; there are {}", ranges(&known));
            Err(ZooError::malformed(zoo.path(), reason))
        }
    }
}

/// Ascending epochs in short: runs as `0-50`.
pub fn ranges(epochs: &[u32]) -> String {
    let runs = epochs.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        run => run.iter().map(u32::to_string).collect(),
    });
    runs.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_short() {
        assert_eq!(ranges(&[0, 1, 2, 3, 5, 10]), "0-3, 5, 10");
        assert_eq!(ranges(&[7]), "7");
        assert_eq!(ranges(&[]), "");
    }
}
