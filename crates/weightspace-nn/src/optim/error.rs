//! What can be wrong with an optimiser's settings, groups and stored state.

/// Why an optimiser cannot be made or continued; every message is one line.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerError {
    /// No optimiser has this name.
    #[error("unknown optimizer '{name}'; known are {known}")]
    UnknownName {
        /// Name as given.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// A setting is out of its range.
    #[error("{setting} of the optimizer is {value}; it must be {expected}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// Its value.
        value: f64,
        /// What it must be.
        expected: &'static str,
    },
    /// Two settings contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// A group's range does not fit its shape, or its end lies before its start.
    #[error(
        "parameter group {index} spans {start}..{end}, which is not what shape {shape:?} takes"
    )]
    GroupShape {
        /// Position in the list of groups.
        index: usize,
        /// First position in the flat vector.
        start: usize,
        /// Position behind the last.
        end: usize,
        /// Dimensions.
        shape: Vec<usize>,
    },
    /// Groups overlap or are not in order.
    #[error(
        "parameter group {index} starts at {start}, before the end of the group before it ({end})"
    )]
    GroupOrder {
        /// Position in the list of groups.
        index: usize,
        /// First position in the flat vector.
        start: usize,
        /// Where the group before ends.
        end: usize,
    },
    /// A state does not have a vector that this optimiser keeps.
    #[error("state of the optimizer has no '{name}'")]
    StateMissing {
        /// Name of the vector.
        name: &'static str,
    },
    /// A state has a vector that this optimiser does not keep.
    #[error("state of the optimizer has '{name}', which this optimizer does not keep")]
    StateUnknown {
        /// Name of the vector.
        name: String,
    },
    /// A vector of a state has another length.
    #[error("'{name}' of the optimizer's state has {found} values, expected {expected}")]
    StateLength {
        /// Name of the vector.
        name: String,
        /// Values that it has.
        found: usize,
        /// Values that it must have.
        expected: usize,
    },
}

/// Checks a setting that must be finite and not negative.
pub(super) fn not_negative(setting: &'static str, value: f64) -> Result<(), OptimizerError> {
    let ok = value.is_finite() && value >= 0.0;
    require(ok, setting, value, "a finite number, not negative")
}

/// Checks a setting that must lie in [0, 1), as the factor of a running average.
pub(super) fn averaging(setting: &'static str, value: f64) -> Result<(), OptimizerError> {
    require((0.0..1.0).contains(&value), setting, value, "at least 0 and below 1")
}

/// Checks a setting by a condition that `expected` puts into words.
pub(super) fn require(
    ok: bool,
    setting: &'static str,
    value: f64,
    expected: &'static str,
) -> Result<(), OptimizerError> {
    if ok { Ok(()) } else { Err(OptimizerError::Setting { setting, value, expected }) }
}
