//! Hot loops on blocked feature maps: `[channels / 16][rows][columns][16]`, with a border of zeros
//! as wide as the paddings of the convolutions that read them.

pub mod conv;
pub mod maps;
pub mod norm;
pub mod pool;
pub mod simd;
