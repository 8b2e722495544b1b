//! Methods that represent the weights of neural networks, on files that decode everywhere.

pub mod quantize;
