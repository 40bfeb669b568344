use super::*;
use report::Engine;

/// Says the tokens it is given, row by row; shows an exploding value where a token is negative. A token is ahead of all
/// others by 1, these of the next ids by less and less.
struct Script {
    rows: Vec<Vec<i64>>,
    said: usize,
    limit: Option<usize>,
    fed: Vec<Vec<i64>>,
}

const WIDTH: usize = 10;

impl Session for Script {
    fn engine(&self) -> Engine {
        Engine { name: "script".into(), version: "1".into(), settings: String::new() }
    }

    fn encode(&mut self, _: &Feeds) -> Result<(), RuntimeError> {
        self.said = 0;
        Ok(())
    }

    fn decode(&mut self, ids: &Tensor) -> Result<Tensor, RuntimeError> {
        let tokens = ids.shape()[1];
        self.fed.push(ids.as_i64().expect("ids").to_vec());
        let mut logits = Vec::new();
        for row in &self.rows {
            for said in &row[self.said..self.said + tokens] {
                let ahead = |id: i64| {
                    if *said < 0 { f32::NAN } else { 1.0 - 0.1 * (id - said).rem_euclid(WIDTH as i64) as f32 }
                };
                logits.extend((0..WIDTH as i64).map(ahead));
            }
        }
        self.said += tokens;
        Ok(Tensor::f32([self.rows.len(), tokens, WIDTH], logits))
    }

    fn limit_tokens(&self) -> Option<usize> {
        self.limit
    }
}

fn plain() -> Generation {
    Generation::plain(2, &[1, 3], 0, 4)
}

fn script(rows: &[&[i64]]) -> Script {
    Script { rows: rows.iter().map(|row| row.to_vec()).collect(), said: 0, limit: None, fed: Vec::new() }
}

/// The ids `source` for every sequence, the last of them padding.
fn run_on(source: &[i64], settings: Generation, script: &mut Script) -> Result<Vec<Generated>, RuntimeError> {
    let (rows, width) = (script.rows.len(), source.len());
    let mask: Vec<i64> = (0..rows * width).map(|i| i64::from(i % width + 1 < width)).collect();
    let feeds = Feeds::from([
        ("input_ids".to_owned(), Tensor::i64([rows, width], source.repeat(rows))),
        ("attention_mask".to_owned(), Tensor::i64([rows, width], mask)),
    ]);
    Greedy { settings }.run(script, &feeds)
}

fn run(rows: &[&[i64]], settings: Generation) -> (Vec<Generated>, Vec<Vec<i64>>) {
    let mut script = script(rows);
    let found = run_on(&[5, 5], settings, &mut script).expect("decoded");
    (found, script.fed)
}

/// Of one sequence that would say `said`.
fn tokens(said: &[i64], settings: Generation) -> Vec<i64> {
    run(&[said], settings).0.remove(0).tokens
}

fn said(tokens: &[i64], ended: bool) -> Generated {
    Generated { prompt: vec![2], tokens: tokens.to_vec(), ended }
}

/// The same, but for sequences that it is told to let go.
struct Leaving(Script, Vec<Vec<usize>>);

impl Session for Leaving {
    fn engine(&self) -> Engine {
        self.0.engine()
    }

    fn encode(&mut self, source: &Feeds) -> Result<(), RuntimeError> {
        self.0.encode(source)
    }

    fn decode(&mut self, ids: &Tensor) -> Result<Tensor, RuntimeError> {
        self.0.decode(ids)
    }

    fn keep(&mut self, rows: &[usize]) -> Result<bool, RuntimeError> {
        self.0.rows = rows.iter().map(|row| self.0.rows[*row].clone()).collect();
        self.1.push(rows.to_vec());
        Ok(true)
    }
}

#[test]
fn sequences_that_have_ended_leave_and_the_others_say_what_they_would() {
    let rows: [&[i64]; 4] = [&[4, 5, 6, 7, 8], &[3, 9, 9, 9, 9], &[5, 6, 3, 9, 9], &[6, 3, 9, 9, 9]];
    let settings = Generation { max_new_tokens: 5, ..plain() };
    let (expected, _) = run(&rows, settings.clone());
    let mut leaving = Leaving(script(&rows), Vec::new());
    let feeds = Feeds::from([("input_ids".to_owned(), Tensor::i64([4, 1], vec![5; 4]))]);
    let found = Greedy { settings }.run(&mut leaving, &feeds).expect("decoded");
    assert_eq!(found, expected);
    // The second is alone to end at first; then half of the four have, and then one of the two that were kept.
    assert_eq!(leaving.1, [vec![0, 2], vec![0]]);
    assert_eq!(leaving.0.fed.iter().map(Vec::len).collect::<Vec<usize>>(), [4, 4, 2, 1, 1]);
}

#[test]
fn each_sequence_stops_at_its_own_end_and_is_fed_padding_after_it() {
    let (found, fed) = run(&[&[5, 1, 7, 7], &[6, 7, 3, 7]], plain());
    assert_eq!(found, [said(&[5, 1], true), said(&[6, 7, 3], true)]);
    assert_eq!(fed, [[2, 2], [5, 6], [1, 7]]);
    let (_, fed) = run(&[&[1, 7, 7, 7], &[6, 7, 3, 7]], plain());
    assert_eq!(fed, [[2, 2], [1, 6], [0, 7]]);
}

#[test]
fn the_limit_counts_new_tokens_and_an_engine_may_lower_it() {
    let long: &[i64] = &[5, 5, 5, 5, 5];
    assert_eq!(run(&[long], plain()).0[0], said(&[5; 4], false));
    let mut short = Script { limit: Some(2), ..script(&[long]) };
    assert_eq!(run_on(&[5, 5], plain(), &mut short).expect("decoded")[0].tokens.len(), 2);
}

#[test]
fn logits_that_are_not_numbers_stop_a_sequence_without_an_end() {
    assert_eq!(run(&[&[5, -1, 5, 5]], plain()).0[0], said(&[5], false));
}

#[test]
fn a_model_without_an_end_is_stopped_by_the_limit_alone() {
    let endless = Generation { eos_token_ids: Vec::new(), min_length: 9, min_new_tokens: 9, ..plain() };
    assert_eq!(run(&[&[1, 3, 1, 3, 1]], endless).0[0], said(&[1, 3, 1, 3], false));
}

#[test]
fn the_first_and_the_last_token_may_be_forced() {
    let forced = Generation { forced_bos_token_id: Some(7), forced_eos_token_ids: vec![3], ..plain() };
    assert_eq!(tokens(&[5, 5, 5, 5], forced.clone()), [7, 5, 5, 3]);
    assert_eq!(tokens(&[5, 1, 5, 5], forced.clone()), [7, 1], "the limit was not reached");
    // An engine that holds less does not move the end.
    let mut short = Script { limit: Some(3), ..script(&[&[5, 5, 5, 5]]) };
    assert_eq!(run_on(&[5, 5], forced, &mut short).expect("decoded")[0].tokens, [7, 5, 5]);
}

#[test]
fn lengths_count_the_start_token_or_not() {
    // Where the end would come, 4 is next; where 3 would come, which is an end, too, 4 is.
    let of = |settings: Generation| tokens(&[1, 1, 1, 1], settings);
    assert_eq!(of(Generation { min_length: 3, ..plain() }), [2, 2, 1]);
    assert_eq!(of(Generation { min_new_tokens: 3, ..plain() }), [2, 2, 2, 1]);
}

#[test]
fn tokens_are_suppressed_at_the_beginning_or_always() {
    let of = |settings: Generation| tokens(&[5, 5, 5, 5], settings);
    assert_eq!(of(Generation { suppress_tokens: vec![5, 6], ..plain() }), [7, 7, 7, 7]);
    assert_eq!(of(Generation { begin_suppress_tokens: vec![5], ..plain() }), [6, 5, 5, 5]);
    let after_forced = Generation { begin_suppress_tokens: vec![5], forced_bos_token_id: Some(8), ..plain() };
    assert_eq!(of(after_forced), [8, 6, 5, 5]);
    assert_eq!(of(Generation { bad_words_ids: vec![vec![5, 5], vec![3]], ..plain() }), [5, 6, 5, 6]);
}

#[test]
fn what_was_said_and_the_source_without_its_padding_are_not_repeated() {
    assert_eq!(tokens(&[5, 5, 5, 5], Generation { no_repeat_ngram_size: 1, ..plain() }), [5, 6, 7, 8]);
    assert_eq!(tokens(&[5, 5, 5, 5], Generation { no_repeat_ngram_size: 2, ..plain() }), [5, 5, 6, 5]);
    let starts_alike = Generation { no_repeat_ngram_size: 2, decoder_start_token_id: 5, ..plain() };
    assert_eq!(tokens(&[5, 5, 5, 5], starts_alike), [5, 6, 5, 7], "the start token counts");
    // 1, 0.9 and 0.8 become 0.5, 0.45 and 0.4, below the 0.7 of the last.
    let penalized = Generation { repetition_penalty: Some(2.0), ..plain() };
    assert_eq!(tokens(&[5, 5, 5, 5], penalized), [5, 6, 7, 8]);

    let source = |settings: Generation| {
        let found = run_on(&[5, 6, 5, 8], settings, &mut script(&[&[5, 5, 7, 7]])).expect("decoded");
        found[0].tokens.clone()
    };
    assert_eq!(source(Generation { encoder_no_repeat_ngram_size: 1, ..plain() }), [7, 7, 7, 7]);
    assert_eq!(source(Generation { encoder_no_repeat_ngram_size: 2, ..plain() }), [5, 5, 7, 7]);
    // 0.9 becomes 1.08, above the 1 of 4.
    let likelier = |source: &[i64]| {
        let settings = Generation { encoder_repetition_penalty: Some(1.2), ..plain() };
        run_on(source, settings, &mut script(&[&[4, 7, 7, 7]])).expect("decoded").remove(0).tokens
    };
    assert_eq!(likelier(&[5, 8]), [5, 7, 7, 7]);
    assert_eq!(likelier(&[3, 5]), [4, 7, 7, 7], "5 is padding");
}

#[test]
fn all_processors_together_do_what_those_of_transformers_do() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/generation/processors.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(file).expect("recorded")).expect("JSON");
    let cases = json["cases"].as_array().expect("a list");
    assert_eq!(cases.len(), 20 * 6);
    for case in cases {
        let ids = |key: &str| -> Vec<i64> { serde_json::from_value(case[key].clone()).expect("ids") };
        let floats = |key: &str| -> Vec<Option<f32>> { serde_json::from_value(case[key].clone()).expect("floats") };
        let overrides = serde_json::from_value(case["settings"].clone()).expect("settings");
        let limit = case["limit"].as_u64().expect("a limit") as usize;
        let settings = Generation::plain(2, &[2], 1, limit).with(&overrides).expect("fits");
        let row = Row { source: ids("source"), tokens: ids("tokens"), next: 0, running: true, ended: false };
        let scores: Vec<f32> = floats("scores").into_iter().flatten().collect();
        let expected: Vec<f32> = floats("processed").into_iter().map(|x| x.unwrap_or(f32::NEG_INFINITY)).collect();
        assert_eq!(Greedy { settings }.scores(&row, 1, &scores), expected, "{case}");
    }
}

/// Whisper's settings with a language that is detected.
fn whisper() -> Generation {
    use converters::checkpoint::generation::Prompt;
    let prompt = Prompt {
        lang_to_id: [("<|en|>".to_owned(), 4), ("<|fr|>".to_owned(), 7)].into(),
        task: Some(8),
        no_timestamps_token_id: Some(9),
        ..Prompt::default()
    };
    Generation { prompt: Some(prompt), max_target_positions: Some(7), ..plain() }
}

#[test]
fn a_language_is_detected_for_each_sequence_by_the_first_logits() {
    // After the start token, 5 and 3 are likeliest of all, 7 and 4 of the languages.
    let (found, fed) = run(&[&[5, 0, 0, 6, 1, 0], &[3, 0, 0, 5, 5, 5]], whisper());
    assert_eq!(found[0], Generated { prompt: vec![2, 7, 8, 9], tokens: vec![6, 1], ended: true });
    // Of 7 positions, the prompt has 4.
    assert_eq!(found[1], Generated { prompt: vec![2, 4, 8, 9], tokens: vec![5, 5, 5], ended: false });
    assert_eq!(fed[..4], [[2, 2], [7, 4], [8, 8], [9, 9]]);

    let known =
        whisper().with(&converters::checkpoint::Overrides { language: Some("fr".into()), ..Default::default() });
    let (found, fed) = run(&[&[0, 0, 0, 6, 1]], known.expect("fits"));
    assert_eq!((&found[0].prompt[..], &found[0].tokens[..]), (&[2, 7, 8, 9][..], &[6, 1][..]));
    assert_eq!(fed[0], [2, 7, 8, 9], "what is known is fed at once");
}

#[test]
fn what_an_engine_holds_has_room_for_the_prompt() {
    let mut short = Script { limit: Some(5), ..script(&[&[5, 0, 0, 6, 6, 6, 6]]) };
    let found = run_on(&[5, 5], whisper(), &mut short).expect("decoded");
    assert_eq!((found[0].tokens.len(), short.fed.len()), (2, 5));
}

#[test]
fn begin_suppress_tokens_of_a_prompt_hold_after_all_of_it() {
    let settings = Generation { begin_suppress_tokens: vec![6], ..whisper() };
    assert_eq!(tokens(&[5, 0, 0, 6, 6, 6], settings), [7, 6, 6]);
}

#[test]
fn tokens_outside_the_vocabulary_are_told_before_one_is_chosen() {
    let told =
        |settings: Generation| run_on(&[5, 5], settings, &mut script(&[&[5; 9]])).expect_err("refused").to_string();
    assert_eq!(
        told(Generation { forced_bos_token_id: Some(10), ..plain() }),
        "decoding: forced_bos_token_id: expected ids of 0 to 9, found [10]"
    );
    let mut far = whisper();
    far.prompt.as_mut().expect("a prompt").lang_to_id.insert("<|xx|>".to_owned(), 12);
    assert_eq!(told(far), "decoding: lang_to_id: expected ids of 0 to 9, found [4, 7, 12]");
}

#[test]
fn a_session_that_answers_with_another_shape_is_an_error() {
    let mut two = script(&[&[5], &[5]]);
    let error = decode(&mut two, &Tensor::i64([3, 1], vec![2; 3])).expect_err("two rows for three");
    assert!(error.to_string().contains("expected logits f32[3, 1, vocabulary], found f32[2, 1, 10]"), "{error}");
}
