//! Files and numbers of **weightspace**: tensors and state dicts, readers and writers of
//! checkpoints, the `.wsp` container with its entropy coder, and the decoder that turns a `.wsp`
//! file back into a state dict.
//!
//! This crate holds no training code, no data sets and no networks. Alignment (`align`), threads (`threads`) and memory
//! maps (`mmap`) are features, so that the decoder can be built for `wasm32` and phones.

#[cfg(feature = "align")]
pub mod align;
pub mod atomic_file;
pub mod basis;
pub mod checkpoint;
pub mod container;
mod decode;
mod entropy;
pub mod exact_product;
pub mod instruction_set;
pub mod layout;
mod parallel;
pub mod permutation;
pub mod predictor;
pub mod random;
pub mod state_dict;
pub mod tensor;
mod text;

pub use atomic_file::AtomicFile;
pub use checkpoint::{Checkpoint, CheckpointError};
pub use container::{WspError, WspFile};
pub use decode::{DecodeOptions, Decoder};
pub use instruction_set::InstructionSet;
pub use layout::{Layout, LayoutEntry};
pub use state_dict::StateDict;
pub use tensor::{DType, Tensor, TensorInfo};
pub use text::quoted;
