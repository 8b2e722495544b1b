//! **weightspace** treats the weights of neural networks as data: the methods that compress and
//! represent them. Files are in [`weightspace_core`], networks and data sets in
//! [`weightspace_nn`]; the program of the same name puts them together.

pub mod progress;

pub use progress::Progress;
