//! How long computations tell whoever waits how far they are.

/// Is told how far a long computation is, from any thread.
pub trait Progress: Sync {
    /// A stage of `steps` steps begins, and the one before is over.
    fn start(&self, stage: &str, steps: u64);

    /// That many more steps of the stage are done.
    fn advance(&self, steps: u64);
}

/// Nobody waits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &str, _: u64) {}

    fn advance(&self, _: u64) {}
}
