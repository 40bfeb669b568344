//! SentencePiece's compiled normalizer: a double-array trie whose leaves point into zero-terminated replacements.
//!
//! `u32 size | u32[size / 4] units | utf-8`. The reader in the `tokenizers` crate follows the units without looking, so
//! they are checked here first.

/// Bits of a unit, as in darts-clone: a leaf's value when the top bit is set, else label, "has a leaf" and offset.
const VALUE: u32 = 1 << 31;

/// Refuses a map that leads out of its own bytes.
pub(super) fn check(charsmap: &[u8]) -> Result<(), String> {
    let (size, rest) = charsmap.split_first_chunk().ok_or("the charsmap is shorter than its own size")?;
    let size = u32::from_le_bytes(*size) as usize;
    let (units, replacements) = rest
        .split_at_checked(size)
        .ok_or_else(|| format!("the charsmap's trie: expected {size} bytes, found {}", rest.len()))?;
    let replacements = std::str::from_utf8(replacements).map_err(|_| "the charsmap's replacements are not UTF-8")?;
    let units: Vec<u32> = units.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    if units.is_empty() {
        return Err("the charsmap's trie is empty".to_owned());
    }
    // The root is followed whatever its top bit says.
    for (at, unit) in units.iter().enumerate().filter(|(at, unit)| *at == 0 || *unit & VALUE == 0) {
        let offset = (unit >> 10) << ((unit & 1 << 9) >> 6);
        let base = at ^ offset as usize;
        // Any byte may follow, so all 256 places of the block must exist.
        if base | 0xff >= units.len() {
            return Err(format!("the charsmap's trie: unit {at} leads to {base} of {}", units.len()));
        }
        let leaf = (units[base] & !VALUE) as usize;
        if unit >> 8 & 1 == 1 && !replacements.is_char_boundary(leaf) {
            return Err(format!("the charsmap's trie: unit {at} has no replacement at {leaf}"));
        }
    }
    Ok(())
}
