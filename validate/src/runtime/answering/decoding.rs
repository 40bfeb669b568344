//! A decoding as an engine that answers is told it.

use converters::checkpoint::Generation;

/// For a report: that the search is greedy, and what of the decoding the engine leaves out. `known`: keys that it does take.
pub(in crate::runtime) fn described(settings: &Generation, known: &[&str]) -> String {
    let keys = [
        (settings.min_length > 0, "min_length"),
        (settings.min_new_tokens > 0, "min_new_tokens"),
        (settings.forced_bos_token_id.is_some(), "forced_bos_token_id"),
        (!settings.forced_eos_token_ids.is_empty(), "forced_eos_token_id"),
        (!settings.bad_words_ids.is_empty(), "bad_words_ids"),
        (settings.no_repeat_ngram_size > 0, "no_repeat_ngram_size"),
        (settings.encoder_no_repeat_ngram_size > 0, "encoder_no_repeat_ngram_size"),
        (settings.repetition_penalty.is_some(), "repetition_penalty"),
        (settings.encoder_repetition_penalty.is_some(), "encoder_repetition_penalty"),
        (!settings.suppress_tokens.is_empty(), "suppress_tokens"),
        (!settings.begin_suppress_tokens.is_empty(), "begin_suppress_tokens"),
    ];
    let left_out = keys.into_iter().filter(|(is_set, key)| *is_set && !known.contains(key));
    let left_out: Vec<&str> = left_out.map(|(_, key)| key).collect();
    let without = if left_out.is_empty() { String::new() } else { format!(" without {}", left_out.join(", ")) };
    format!("its own greedy search{without}, beam size 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_does_not_take_is_told() {
        let plain = Generation::plain(0, &[1], 0, 20);
        assert_eq!(described(&plain, &[]), "its own greedy search, beam size 1");
        let settings = Generation { suppress_tokens: vec![3], repetition_penalty: Some(1.2), min_length: 2, ..plain };
        let told = described(&settings, &["suppress_tokens"]);
        assert_eq!(told, "its own greedy search without min_length, repetition_penalty, beam size 1");
    }
}
