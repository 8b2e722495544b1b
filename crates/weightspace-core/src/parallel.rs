//! Independent work on as many threads as there are, with results in order.

/// The results of `work` for 0..`count`.
#[cfg(feature = "threads")]
pub(crate) fn map<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    use rayon::prelude::*;
    (0..count).into_par_iter().map(work).collect()
}

/// The results of `work` for 0..`count`.
#[cfg(not(feature = "threads"))]
pub(crate) fn map<T>(count: usize, work: impl Fn(usize) -> T) -> Vec<T> {
    (0..count).map(work).collect()
}

/// How many results [`map`] works on at the same time.
pub(crate) fn width() -> usize {
    #[cfg(feature = "threads")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "threads"))]
    return 1;
}
