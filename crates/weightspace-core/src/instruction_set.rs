//! The instruction sets that kernels are compiled for.

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// Whatever the target has by default (on ARM: NEON).
    Portable,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// AVX-512F.
    Avx512,
}

impl InstructionSet {
    /// The best one of this machine.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return InstructionSet::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return InstructionSet::Avx2;
            }
        }
        InstructionSet::Portable
    }

    /// All that this machine can run, worst first.
    pub fn available() -> Vec<Self> {
        [InstructionSet::Portable, InstructionSet::Avx2, InstructionSet::Avx512]
            .into_iter()
            .filter(|&set| set <= InstructionSet::best())
            .collect()
    }
}

/// Says that nothing stands in the upper halves of wide registers any more.
///
/// Kernels of other crates in assembly may leave something there; code for any machine then is up to three times as slow, as every one
/// of its instructions has to keep it, until somebody says this. Compilers say it at the end of their own kernels.
pub fn leave_wide_registers() {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx") {
        // SAFETY: the machine has the instruction, as was just found.
        unsafe { zero_upper_halves() };
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn zero_upper_halves() {
    std::arch::x86_64::_mm256_zeroupper();
}
