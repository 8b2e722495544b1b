//! What all ranks must agree on.

use std::fmt::Display;

use sha2::{Digest, Sha256};

use super::Communicator;

/// What went wrong on another rank.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rank {rank}: {message}")]
pub struct Elsewhere {
    /// Which rank.
    pub rank: usize,
    /// Its error.
    pub message: String,
}

/// Fails on all ranks if it failed on any: there with its own error, elsewhere with that of the first
/// rank that failed.
///
/// # Errors
/// See above.
pub fn agree<T, E>(comm: &dyn Communicator, result: Result<T, E>) -> Result<T, E>
where
    E: Display + From<Elsewhere>,
{
    if comm.size() == 1 || !comm.any(result.is_err()) {
        return result;
    }
    let message = result.as_ref().err().map_or(String::new(), |error| format!("{error:#}"));
    let messages = gather_texts(comm, &message);
    let value = result?;
    match messages.into_iter().enumerate().find(|(_, message)| !message.is_empty()) {
        Some((rank, message)) => Err(Elsewhere { rank, message }.into()),
        None => Ok(value),
    }
}

fn gather_texts(comm: &dyn Communicator, own: &str) -> Vec<String> {
    let mut lengths = vec![0.0; comm.size()];
    comm.gather_f64(&[own.len() as f64], &mut lengths);
    let lengths: Vec<_> = lengths.into_iter().map(|length| length as usize).collect();
    let mut all = vec![0; lengths.iter().sum()];
    comm.gather(own.as_bytes(), &lengths, &mut all);
    let mut rest = &all[..];
    let texts = lengths.into_iter().map(|length| {
        let (text, behind) = rest.split_at(length);
        rest = behind;
        String::from_utf8_lossy(text).into_owned()
    });
    texts.collect()
}

/// Fails on all ranks unless these bytes are the same on all of them; `what` names them.
///
/// # Errors
/// The first rank that differs from rank 0.
pub fn agree_on(comm: &dyn Communicator, what: &str, bytes: &[&[u8]]) -> Result<(), Elsewhere> {
    if comm.size() == 1 {
        return Ok(());
    }
    let mut hash = Sha256::new();
    bytes.iter().for_each(|bytes| hash.update(bytes));
    let own = hash.finalize();
    let mut all = vec![0; own.len() * comm.size()];
    comm.gather(&own, &vec![own.len(); comm.size()], &mut all);
    let mut hashes = all.chunks_exact(own.len());
    match hashes.position(|hash| hash != &all[..own.len()]) {
        Some(rank) => Err(Elsewhere { rank, message: format!("{what} differ from rank 0's") }),
        None => Ok(()),
    }
}
