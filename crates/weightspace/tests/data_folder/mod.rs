//! Where the tests find real data.

use std::path::PathBuf;

/// The folder of data sets that `WEIGHTSPACE_DATA` names; none if it is not set, or empty.
pub fn data_folder() -> Option<PathBuf> {
    std::env::var_os("WEIGHTSPACE_DATA").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}
