//! How many pieces a tokenizer.json may have, and how long they may be.

use serde_json::Value;

use checkpoint::limits::{Budget, PIECE_BYTES, PIECES};

/// A node of the crate's tree of pieces that has others below: a hash table with room for three.
const NODE_BYTES: u64 = 340;
/// A place in such a table, and a piece in its list and its table.
const ENTRY_BYTES: u64 = 200;
/// What a piece may take beyond what its share of the file allows: 250 thousand pieces of as many languages as mT5 has take
/// some 70 times their file.
const PIECE_ALLOWANCE_BYTES: u64 = 700;

/// Errors: pieces that take more memory than a file of so many bytes may, or more time than any text is worth.
pub(super) fn check(json: &Value, file_bytes: usize) -> Result<(), String> {
    let vocab = json.pointer("/model/vocab");
    let pair = |entry: &Value| entry.get(0).and_then(Value::as_str).map(str::len);
    let scored = vocab.and_then(Value::as_array).map(|entries| entries.iter().filter_map(pair).max());
    let mapped = vocab.and_then(Value::as_object).map(|entries| entries.keys().map(String::len).max());
    let added = json.get("added_tokens").and_then(Value::as_array);
    let content = |token: &Value| token.get("content").and_then(Value::as_str).map(str::len);
    let longest_added = added.map(|tokens| tokens.iter().filter_map(content).max());
    let longest = [scored, mapped, longest_added].into_iter().flatten().flatten().max().unwrap_or(0);
    if longest > PIECE_BYTES {
        return Err(format!("expected pieces of at most {PIECE_BYTES} bytes, found one of {longest}"));
    }
    let count = vocab.and_then(Value::as_array).map_or(0, Vec::len)
        + vocab.and_then(Value::as_object).map_or(0, serde_json::Map::len)
        + added.map_or(0, Vec::len);
    if count > PIECES {
        return Err(format!("expected at most {PIECES} pieces, found {count}"));
    }
    let entries = vocab.and_then(Value::as_array).into_iter().flatten();
    let pieces = entries.filter_map(|entry| entry.get(0).and_then(Value::as_str)).collect();
    check_tree(pieces, file_bytes)
}

/// Whether the pieces of a Unigram model make a tree that fits, of which a node takes a hundred times its byte.
pub(crate) fn check_tree(mut pieces: Vec<&str>, file_bytes: usize) -> Result<(), String> {
    let mut budget = Budget::share(file_bytes as u64, 1).with(pieces.len() as u64 * PIECE_ALLOWANCE_BYTES);
    pieces.sort_unstable();
    let mut before: &[u8] = &[];
    for piece in pieces.iter().map(|piece| piece.as_bytes()) {
        let shared = piece.iter().zip(before).take_while(|(a, b)| a == b).count();
        // The last of the new nodes has nothing below it yet.
        let new = (piece.len() - shared).saturating_sub(1) + usize::from(shared == before.len() && shared > 0);
        budget.take(ENTRY_BYTES + new as u64 * NODE_BYTES)?;
        before = piece;
    }
    Ok(())
}
