//! Hot loops on blocked feature maps: `[channels / 16][rows][columns][16]`, with a border of zeros
//! as wide as the paddings of the convolutions that read them; and on tokens, row by row.
//!
//! Every operation has its forward and its backward function in one file.

pub mod activation;
pub mod attention;
pub mod batch_norm;
pub mod dropout;
pub mod layer_norm;
pub mod maps;
pub mod math;
pub mod norm;
pub mod outer;
pub mod pack;
pub mod pool;
pub mod product;
pub mod scatter;
pub mod simd;
pub mod tile;
pub mod winograd;
