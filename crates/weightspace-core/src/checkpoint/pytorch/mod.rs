//! Files of `torch.save`: a pickle that names tensors, and their storages beside it.

pub(super) mod archive;
pub(super) mod legacy;
mod objects;
mod state_dict;
