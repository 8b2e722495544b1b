//! What a group of models in training can be asked for.

use super::images::Part;
use crate::zoo::ZooError;

/// Loss and accuracy of a model; NaN where unknown.
pub type Scores = [f32; 2];

/// The models of a group, in training.
pub trait Members {
    /// Finished epochs.
    fn epoch(&self) -> u32;

    /// Whether all epochs are done.
    fn is_finished(&self) -> bool;

    /// Trains to the end of an epoch, and says how the models did in it; `None` if `stop` said so before.
    ///
    /// # Errors
    /// If network and images do not fit.
    fn run_epoch(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Vec<Scores>>, ZooError>;

    /// How the models do; `None` if there are no such images.
    ///
    /// # Errors
    /// If network and images do not fit.
    fn evaluate(&mut self, part: Part) -> Result<Option<Vec<Scores>>, ZooError>;

    /// The row of weights of every model.
    ///
    /// # Errors
    /// Values that rows cannot hold.
    fn rows(&mut self) -> Result<Vec<Vec<f32>>, ZooError>;

    /// Writes all that is needed to continue.
    ///
    /// # Errors
    /// What the system says.
    fn save(&mut self) -> Result<(), ZooError>;

    /// Continues where [`save`](Self::save) was; `false` if there is nothing.
    ///
    /// # Errors
    /// If the file is damaged, or of other models.
    fn restore(&mut self) -> Result<bool, ZooError>;
}
