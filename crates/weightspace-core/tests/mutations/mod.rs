//! Damaged files.

/// The bytes with every bit flipped, cut at every length, and with one to four random edits.
pub fn mutants(bytes: &[u8], edited: usize) -> Vec<Vec<u8>> {
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let flipped = |bit: usize| {
        let mut mutant = bytes.to_vec();
        mutant[bit / 8] ^= 1 << (bit % 8);
        mutant
    };
    let mut mutants: Vec<Vec<u8>> = (0..8 * bytes.len()).map(flipped).collect();
    mutants.extend((0..bytes.len()).map(|length| bytes[..length].to_vec()));
    for _ in 0..edited {
        let mut mutant = bytes.to_vec();
        for _ in 0..1 + random(4) {
            let at = random(mutant.len());
            match random(3) {
                0 => mutant[at] = random(256) as u8,
                1 => mutant.insert(at, random(256) as u8),
                _ => drop(mutant.remove(at)),
            }
        }
        mutants.push(mutant);
    }
    mutants
}
