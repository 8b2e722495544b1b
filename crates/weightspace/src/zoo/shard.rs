//! A part of a zoo for one of several machines.

use std::str::FromStr;

use super::ZooError;

/// Part `index` of `count` of a zoo's models: those whose position is `index` modulo `count`. All parts
/// together are all models, none of them twice. Text form: `0/4` to `3/4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 0.
    pub index: usize,
    /// Number of parts.
    pub count: usize,
}

/// Variables by which schedulers number what they start: the number, how many there are, and what the first
/// number is.
const VARIABLES: [(&str, &str, Option<&str>); 2] = [
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", Some("SLURM_ARRAY_TASK_MIN")),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", None),
];

impl Shard {
    /// Everything.
    pub const WHOLE: Shard = Shard { index: 0, count: 1 };

    /// Part `index` of `count`.
    ///
    /// # Errors
    /// If there is no such part.
    pub fn new(index: usize, count: usize) -> Result<Self, ZooError> {
        match index < count {
            true => Ok(Shard { index, count }),
            false => Err(ZooError::Description(format!(
                "shard {index}/{count}: shards of {count} are 0/{count} to {}/{count}",
                count.saturating_sub(1)
            ))),
        }
    }

    /// The part that a scheduler's variables name: those of a Slurm array (`SLURM_ARRAY_TASK_ID`, `_COUNT`,
    /// `_MIN`), or of an indexed job of Kubernetes (`JOB_COMPLETION_INDEX`, and `JOB_COMPLETIONS`, which the job has to
    /// set itself). `count` takes the place of the second variable. Nothing where no scheduler speaks.
    ///
    /// # Errors
    /// A variable that is no number, or no number of parts.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
        count: Option<usize>,
    ) -> Result<Option<Self>, ZooError> {
        let number = |name: &str| -> Result<Option<usize>, ZooError> {
            let Some(text) = variable(name).filter(|text| !text.is_empty()) else {
                return Ok(None);
            };
            let number = text.parse().map(Some);
            number.map_err(|_| ZooError::Description(format!("{name}={text} is no number")))
        };
        for (id, parts, first) in VARIABLES {
            let Some(index) = number(id)? else { continue };
            let count = match count {
                Some(count) => count,
                None => number(parts)?.ok_or_else(|| {
                    ZooError::Description(format!("{id} is set, but not {parts}: of how many?"))
                })?,
            };
            let first = first.map_or(Ok(None), number)?.unwrap_or(0);
            let index = index.checked_sub(first).ok_or_else(|| {
                ZooError::Description(format!("{id}={index} is below the first, {first}"))
            })?;
            return Shard::new(index, count).map(Some);
        }
        Ok(None)
    }

    /// Whether the model at this position belongs to the part.
    pub fn has(self, position: usize) -> bool {
        position % self.count == self.index
    }

    /// The positions of the part among `models`, ascending.
    pub fn positions(self, models: usize) -> impl Iterator<Item = usize> {
        (self.index..models).step_by(self.count)
    }
}

impl FromStr for Shard {
    type Err = ZooError;

    fn from_str(text: &str) -> Result<Self, ZooError> {
        let parts =
            text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        let (index, count) = parts.ok_or_else(|| {
            ZooError::Description(format!("'{text}' is no shard; shards look like 0/4"))
        })?;
        Shard::new(index, count)
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}
