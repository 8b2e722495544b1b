//! Sixteen blocks of the key stream at the same time, word by word in registers, where they are used
//! and forgotten.

use super::words::Words;
use crate::random::Key;

/// ChaCha8 with a key.
#[derive(Clone, Copy, Debug)]
pub struct Cipher {
    key: [u32; 8],
}

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

const LANES: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

impl Cipher {
    pub fn new(key: Key) -> Self {
        let word = |i: usize| std::array::from_fn(|j| key.0[4 * i + j]);
        Cipher { key: std::array::from_fn(|i| u32::from_le_bytes(word(i))) }
    }

    /// Word i of 16 blocks of a stream from `first` on stands in the i-th result.
    ///
    /// # Safety
    /// The processor has the instruction set of `W`.
    #[inline(always)]
    pub unsafe fn blocks<W: Words>(&self, stream: u64, first: u64) -> [W; 16] {
        let high = |number: u64| (number >> 32) as u32;
        let numbers = LANES.map(|lane| (first + u64::from(lane)) as u32);
        let high_numbers = LANES.map(|lane| high(first + u64::from(lane)));
        // SAFETY: by the contract of this function.
        unsafe {
            let initial: [W; 16] = std::array::from_fn(|i| match i {
                0..4 => W::splat(CONSTANTS[i]),
                4..12 => W::splat(self.key[i - 4]),
                12 => W::load(&numbers),
                13 => W::load(&high_numbers),
                14 => W::splat(stream as u32),
                _ => W::splat(high(stream)),
            });
            let mut x = initial;
            for _ in 0..4 {
                for column in 0..4 {
                    quarter_round(&mut x, [0, 4, 8, 12].map(|row| row + column));
                }
                for diagonal in 0..4 {
                    quarter_round(&mut x, [0, 1, 2, 3].map(|i| 4 * i + (diagonal + i) % 4));
                }
            }
            for (x, initial) in x.iter_mut().zip(initial) {
                *x = x.add(initial);
            }
            x
        }
    }
}

/// # Safety
/// The processor has the instruction set of `W`.
#[inline(always)]
unsafe fn quarter_round<W: Words>(x: &mut [W; 16], [a, b, c, d]: [usize; 4]) {
    // SAFETY: by the contract of this function.
    unsafe {
        x[a] = x[a].add(x[b]);
        x[d] = x[d].xor(x[a]).rotate_left::<16>();
        x[c] = x[c].add(x[d]);
        x[b] = x[b].xor(x[c]).rotate_left::<12>();
        x[a] = x[a].add(x[b]);
        x[d] = x[d].xor(x[a]).rotate_left::<8>();
        x[c] = x[c].add(x[d]);
        x[b] = x[b].xor(x[c]).rotate_left::<7>();
    }
}
