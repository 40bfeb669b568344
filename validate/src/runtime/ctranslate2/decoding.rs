//! A model's decoding as arguments of CTranslate2's `translate_batch`, and what it has no argument for.

use converters::checkpoint::Generation;
use serde_json::{Map, Value, json};

use super::folder::Folder;

/// How all sources are asked.
pub(super) struct Decoding {
    /// Arguments by their names.
    pub(super) options: Map<String, Value>,
    /// Tokens that every target begins with after the start token.
    pub(super) prefix: Vec<String>,
    /// Keys of the decoding that the engine leaves out.
    pub(super) left_out: Vec<&'static str>,
}

impl Decoding {
    /// Greedy, one hypothesis. The engine counts the tokens of a target after the start token, its end and what is forced included.
    ///
    /// Errors: a sentence when a token is forced that the model does not have, or when it has another prompt than a start token.
    pub(super) fn of(settings: &Generation, folder: &Folder) -> Result<Decoding, String> {
        if settings.prompt().len() != 1 {
            return Err(format!("expected a start token alone before an answer, found {settings}"));
        }
        let token = |id: i64| folder.target.token(id).map(str::to_owned);
        // What the model does not have, it cannot say.
        let had = |ids: &[i64]| ids.iter().map(|id| token(*id)).collect::<Result<Vec<_>, _>>().ok();
        let is_end = |word: &&Vec<i64>| word.len() == 1 && settings.eos_token_ids.contains(&word[0]);
        let words = settings.bad_words_ids.iter().filter(|word| !is_end(word)).filter_map(|word| had(word));
        let suppressed = settings.suppress_tokens.iter().filter_map(|id| had(&[*id]));
        let never: Vec<Vec<String>> = words.chain(suppressed).filter(|words| !words.is_empty()).collect();
        let ends: Vec<String> = settings.eos_token_ids.iter().filter_map(|id| token(*id).ok()).collect();

        let Value::Object(mut options) = json!({
            "beam_size": 1,
            "return_end_token": true,
            "max_input_length": 0,
            "max_decoding_length": settings.new_tokens(),
            "min_decoding_length": settings.min_new_tokens.max(settings.min_length.saturating_sub(1)),
            "no_repeat_ngram_size": settings.no_repeat_ngram_size,
            "repetition_penalty": settings.repetition_penalty.unwrap_or(1.0),
        }) else {
            unreachable!("written as an object")
        };
        if !never.is_empty() {
            options.insert("suppress_sequences".to_owned(), json!(never));
        }
        if !ends.is_empty() {
            options.insert("end_token".to_owned(), json!(ends));
        }
        let start = match folder.config.decoder_start_token {
            Some(_) => None,
            None => Some(settings.decoder_start_token_id),
        };
        let prefix = start.into_iter().chain(settings.forced_bos_token_id).map(token).collect::<Result<_, _>>()?;
        Ok(Decoding { options, prefix, left_out: left_out(settings) })
    }
}

/// What the engine has no argument for.
fn left_out(settings: &Generation) -> Vec<&'static str> {
    let keys = [
        (!settings.forced_eos_token_ids.is_empty(), "forced_eos_token_id"),
        (!settings.begin_suppress_tokens.is_empty(), "begin_suppress_tokens"),
        (settings.encoder_no_repeat_ngram_size > 0, "encoder_no_repeat_ngram_size"),
        (settings.encoder_repetition_penalty.is_some(), "encoder_repetition_penalty"),
        // Its penalty is of tokens that were said, that of transformers also of the one that was fed first.
        (settings.repetition_penalty.is_some(), "repetition_penalty of the start token"),
    ];
    keys.into_iter().filter_map(|(is_set, key)| is_set.then_some(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::folder::tests::folder;
    use super::*;

    fn of(config: &str, settings: &Generation) -> Result<Decoding, String> {
        Decoding::of(settings, &Folder::read(folder("TransformerSpec", config).path()).expect("whole"))
    }

    #[test]
    fn a_decoding_becomes_arguments_and_what_has_none_is_told() {
        let settings = Generation {
            min_length: 4,
            bad_words_ids: vec![vec![1], vec![3, 4], vec![9]],
            suppress_tokens: vec![0, 7],
            forced_bos_token_id: Some(3),
            forced_eos_token_ids: vec![1],
            begin_suppress_tokens: vec![4],
            ..Generation::plain(0, &[1], 0, 20)
        };
        let found = of("{}", &settings).expect("asked");
        let expected = json!({
            "beam_size": 1, "return_end_token": true, "max_input_length": 0, "max_decoding_length": 20, "min_decoding_length": 3,
            "no_repeat_ngram_size": 0, "repetition_penalty": 1.0, "suppress_sequences": [["a", "b"], ["<pad>"]],
            "end_token": ["</s>"],
        });
        assert_eq!(Value::Object(found.options), expected);
        assert_eq!(
            (found.prefix, found.left_out),
            (vec!["a".to_owned()], vec!["forced_eos_token_id", "begin_suppress_tokens"])
        );
        // A model that is told what comes first.
        let found = of(r#"{"decoder_start_token":null}"#, &settings).expect("asked");
        assert_eq!(found.prefix, ["<pad>", "a"]);
    }

    #[test]
    fn a_forced_token_of_another_vocabulary_is_refused() {
        let settings = Generation { forced_bos_token_id: Some(8), ..Generation::plain(0, &[1], 0, 20) };
        let error = of("{}", &settings).err().expect("refused");
        assert_eq!(error, "shared_vocabulary.json: expected ids below 5, found 8");
    }
}
