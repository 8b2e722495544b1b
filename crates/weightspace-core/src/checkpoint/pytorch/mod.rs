//! Files of `torch.save`: a pickle that names tensors, and their storages beside it.

pub(super) mod archive;
pub(super) mod legacy;
mod objects;
mod state_dict;

use objects::TorchTensor;

use super::contents::Listing;
use super::error::{Reason, quoted, reason};
use super::strided::View;
use crate::tensor::TensorInfo;

/// Tensors of a file, and where the elements of each are in its storage.
type Listed<P> = (Vec<TensorInfo>, Vec<(P, View)>);

/// Names, types and shapes of the tensors, and where their elements are: `locate` gives the place and the bytes of the
/// storage of that key.
fn list<P>(
    found: Vec<(String, TorchTensor)>,
    file_bytes: usize,
    locate: impl Fn(&str) -> Option<(P, u64)>,
) -> Result<Listed<P>, Reason> {
    let mut listing = Listing::default();
    let mut places = Vec::with_capacity(found.len());
    for (name, TorchTensor { storage, view }) in found {
        let (place, size) = locate(storage.key).ok_or_else(|| {
            let key = quoted(storage.key);
            reason!("tensor {} is in storage {key}, which is missing", quoted(&name))
        })?;
        view.check(size).map_err(|Reason(reason)| reason!("tensor {} {reason}", quoted(&name)))?;
        listing.push(&name, view.dtype, view.shape.clone())?;
        places.push((place, view));
    }
    Ok((listing.finish(file_bytes)?, places))
}
