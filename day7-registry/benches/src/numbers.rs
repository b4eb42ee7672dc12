//! What is asked: numbers to add, and bytes to echo. The same in every run, for every peer.

/// Numbers to add: many different ones, the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: usize) -> Numbers {
        Numbers(seed as u64 + 1)
    }

    /// Two numbers of at most a million, so that their sum is a number of the same type.
    pub(crate) fn next(&mut self) -> (i32, i32) {
        // Knuth's MMIX generator; its upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let small = |bits: u64| (bits % 2_000_001) as i32 - 1_000_000;
        (small(self.0 >> 42), small((self.0 >> 20) & 0x3f_ffff))
    }
}

/// So many bytes, of all values.
pub(crate) fn payload(len: usize) -> Vec<u8> {
    let mut numbers = Numbers::new(len);
    (0..len).map(|_| numbers.next().0 as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_small_enough_to_be_added_and_differ() {
        let mut numbers = Numbers::new(0);
        let all: std::collections::HashSet<_> = (0..1000).map(|_| numbers.next()).collect();
        assert!(all.iter().all(|(a, b)| a.abs() <= 1_000_000 && b.abs() <= 1_000_000));
        assert!(all.len() > 990);
    }
}
