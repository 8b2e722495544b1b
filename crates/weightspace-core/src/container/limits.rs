//! The normative limits of a `.wsp` file: what bounds the work and memory that any file can ask
//! for by its length.

/// Symbols that each SYMBOLS section but the last covers.
pub(crate) const SECTION_SYMBOLS: usize = 1 << 20;
/// Bytes that each RAW section but the last covers.
pub(crate) const SECTION_RAW_BYTES: usize = 1 << 22;
/// Tensors of a file.
pub(crate) const TENSORS: usize = 1 << 17;
/// Dimensions of a tensor.
pub(crate) const RANK: usize = 8;
/// Elements of a tensor, and each of its dimensions.
pub(crate) const ELEMENTS: u64 = 1 << 40;
/// Bytes of the inflated table.
pub(crate) const TABLE_BYTES: usize = 1 << 24;
/// Bytes of one tensor's name.
pub(crate) const NAME_BYTES: usize = 1 << 12;
/// Bytes of all names together.
pub(crate) const ALL_NAME_BYTES: usize = 1 << 24;
/// Bytes of each text of the header.
pub(crate) const TEXT_BYTES: usize = 1 << 12;
/// Elements of a constant tensor.
pub(crate) const CONSTANT_ELEMENTS: usize = 1 << 16;
/// Elements of all constant tensors together.
pub(crate) const ALL_CONSTANT_ELEMENTS: usize = 1 << 22;
/// Coefficients of a projection.
pub(crate) const COEFFICIENTS: usize = 1 << 24;
/// Weights of all projected tensors together.
pub(crate) const PROJECTED_WEIGHTS: u64 = 1 << 31;
/// Weights of all projected tensors together, for each coefficient.
pub(crate) const WEIGHTS_PER_COEFFICIENT: u64 = 1 << 16;
/// Elements of all products and predicted tensors together.
const EXPANDED_ELEMENTS: u64 = 1 << 31;
/// Elements of all products and predicted tensors together, for each byte of the file: four times what a matrix
/// of 4,096 x 4,096 of rank 1 needs with factors of 8 bits.
const EXPANDED_ELEMENTS_PER_BYTE: u64 = 1 << 13;
/// Exchanges that each ORDER section but the last covers.
pub(crate) const SECTION_EXCHANGES: usize = 1 << 16;
/// Bytes of the content of a PLANE section.
pub(crate) const PLANE_SECTION_BYTES: u64 = 1 << 27;

/// Elements that all products and predicted tensors of a file of `bytes` bytes may have together.
pub(crate) fn expanded_of(bytes: usize) -> u64 {
    EXPANDED_ELEMENTS.min((bytes as u64).saturating_mul(EXPANDED_ELEMENTS_PER_BYTE))
}

/// Symbols that a SYMBOLS section of `bytes` bytes may cover.
pub(crate) fn symbols_of(bytes: usize) -> usize {
    bytes.saturating_mul(512).saturating_add(1 << 16)
}

/// Exchanges that an ORDER section of `bytes` bytes may cover: each takes a bit at least.
pub(crate) fn exchanges_of(bytes: usize) -> usize {
    bytes.saturating_mul(8).saturating_add(64)
}

/// Bytes that a deflated RAW section of `bytes` bytes may cover.
pub(crate) fn inflated_of(bytes: usize) -> usize {
    bytes.saturating_mul(1032).saturating_add(64)
}
