//! Numbers drawn by a fixed rule.

/// Xorshift (Marsaglia 2003), never 0.
#[derive(Debug)]
pub struct Draw(u64);

impl Default for Draw {
    fn default() -> Draw {
        Draw(0x9e37_79b9_7f4a_7c15)
    }
}

impl Draw {
    /// Another sequence for each seed.
    pub fn new(seed: u64) -> Draw {
        let state = 0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0xd134_2543_de82_ef95);
        Draw(if state == 0 { 1 } else { state })
    }

    /// A number below `bound`; the lower bits are enough for token ids.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// A multiple of 2^-15 in [-1, 1).
    pub fn float(&mut self) -> f32 {
        self.below(1 << 16) as f32 / 32768.0 - 1.0
    }
}
