//! SentencePiece's compiled normalizer: a double-array trie whose leaves point into zero-terminated replacements.
//!
//! `u32 size | u32[size / 4] units | utf-8`. Whoever follows the units does so without looking, so they are checked
//! first.

use checkpoint::limits::REPLACEMENT_GROWTH;

/// Bits of a unit, as in darts-clone: a leaf's value when the top bit is set, else label, "has a leaf" and offset.
const VALUE: u32 = 1 << 31;

/// Replacements of the longest prefix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Charsmap {
    units: Vec<u32>,
    replacements: String,
}

/// Where the children of a unit begin, before their label is added.
fn base(at: usize, unit: u32) -> usize {
    at ^ ((unit >> 10) << ((unit & 1 << 9) >> 6)) as usize
}

fn has_leaf(unit: u32) -> bool {
    unit >> 8 & 1 == 1
}

impl Charsmap {
    /// Refuses a map that leads out of its own bytes. No bytes are no map.
    pub(crate) fn read(charsmap: &[u8]) -> Result<Charsmap, String> {
        if charsmap.is_empty() {
            return Ok(Charsmap::default());
        }
        let (size, rest) = charsmap.split_first_chunk().ok_or("the charsmap is shorter than its own size")?;
        let size = u32::from_le_bytes(*size) as usize;
        let (units, replacements) = rest
            .split_at_checked(size)
            .ok_or_else(|| format!("the charsmap's trie: expected {size} bytes, found {}", rest.len()))?;
        let replacements =
            std::str::from_utf8(replacements).map_err(|_| "the charsmap's replacements are not UTF-8")?;
        let units: Vec<u32> = units.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        if units.is_empty() {
            return Err("the charsmap's trie is empty".to_owned());
        }
        // The root is followed whatever its top bit says.
        for (at, &unit) in units.iter().enumerate().filter(|(at, unit)| *at == 0 || **unit & VALUE == 0) {
            let base = base(at, unit);
            // Any byte may follow, so all 256 places of the block must exist.
            if base | 0xff >= units.len() {
                return Err(format!("the charsmap's trie: unit {at} leads to {base} of {}", units.len()));
            }
            let leaf = (units[base] & !VALUE) as usize;
            if has_leaf(unit) && !replacements.is_char_boundary(leaf) {
                return Err(format!("the charsmap's trie: unit {at} has no replacement at {leaf}"));
            }
            // A text must not become a thousand times as long. Whatever is replaced has a byte or more.
            let longest = 4 * REPLACEMENT_GROWTH;
            if has_leaf(unit) && !replacements[leaf..].bytes().take(longest + 1).any(|byte| byte == 0) {
                let rest = replacements.len() - leaf;
                if rest > longest {
                    return Err(format!("the charsmap's replacement at {leaf}: expected at most {longest} bytes"));
                }
            }
        }
        Ok(Charsmap { units, replacements: replacements.to_owned() })
    }

    /// What the longest known prefix of a text becomes, and its length in bytes.
    pub(crate) fn replace_prefix(&self, text: &str) -> Option<(&str, usize)> {
        let mut place = base(0, *self.units.first()?);
        let mut found = None;
        for (at, byte) in text.bytes().enumerate() {
            place ^= usize::from(byte);
            let unit = self.units[place];
            // The label, which no leaf's value equals.
            if unit & (VALUE | 0xff) != u32::from(byte) {
                break;
            }
            place = base(place, unit);
            if has_leaf(unit) {
                found = Some(((self.units[place] & !VALUE) as usize, at + 1));
            }
        }
        let (leaf, len) = found.filter(|(_, len)| text.is_char_boundary(*len))?;
        let replacement = &self.replacements[leaf..];
        Some((&replacement[..replacement.find('\0').unwrap_or(replacement.len())], len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of `a` to a replacement.
    fn of_a(replacement: &str) -> Vec<u8> {
        let mut units = vec![0_u32; 512];
        // The root leads to 256, where `a` has a leaf at 0 ^ 97.
        units[0] = 256 << 10;
        units[256 ^ 97] = 256 << 10 | 1 << 8 | 97;
        units[97] = VALUE;
        let bytes = units.iter().flat_map(|unit| unit.to_le_bytes());
        [&2048_u32.to_le_bytes()[..], &bytes.collect::<Vec<u8>>(), replacement.as_bytes(), b"\0"].concat()
    }

    #[test]
    fn a_replacement_is_as_long_as_any_in_use_at_most() {
        let map = Charsmap::read(&of_a("bc")).expect("a map");
        assert_eq!((map.replace_prefix("ab"), map.replace_prefix("b")), (Some(("bc", 1)), None));
        Charsmap::read(&of_a(&"b".repeat(48))).expect("12 times as long as the longest character");
        let long = Charsmap::read(&of_a(&"b".repeat(1 << 20))).expect_err("refused");
        assert_eq!(long, "the charsmap's replacement at 0: expected at most 48 bytes");
    }
}
