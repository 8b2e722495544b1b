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

/// Calls `work` for consecutive chunks of `length` elements (the last may be shorter) with the position
/// of each chunk's first.
#[cfg(feature = "threads")]
pub(crate) fn for_each_chunk<T: Send>(
    elements: &mut [T],
    length: usize,
    work: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    use rayon::prelude::*;
    let chunks = elements.par_chunks_mut(length).enumerate();
    chunks.for_each(|(index, chunk)| work(index * length, chunk));
}

/// Calls `work` for consecutive chunks of `length` elements (the last may be shorter) with the position
/// of each chunk's first.
#[cfg(not(feature = "threads"))]
pub(crate) fn for_each_chunk<T>(elements: &mut [T], length: usize, work: impl Fn(usize, &mut [T])) {
    let chunks = elements.chunks_mut(length).enumerate();
    chunks.for_each(|(index, chunk)| work(index * length, chunk));
}
