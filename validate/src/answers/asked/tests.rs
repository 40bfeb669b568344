use frontend::Input;
use graph::progress::Quiet;
use report::Engine;

use super::*;
use converters::checkpoint::Generation;

/// Words of one letter, ids by their place in the alphabet; a capital is another token for a word at the beginning.
struct Letters;

impl Text for Letters {
    fn encode(&self, text: &str) -> Result<Vec<i64>, String> {
        let mut ids = Vec::new();
        for (place, word) in text.split(' ').enumerate().filter(|(_, word)| !word.is_empty()) {
            let letter = word.bytes().next().ok_or("no letter")?;
            if !letter.is_ascii_lowercase() {
                return Err(format!("{word} is no word"));
            }
            ids.push(i64::from(letter - b'a') + if place == 0 { 100 } else { 0 });
        }
        Ok(ids)
    }

    fn decode(&self, ids: &[i64]) -> String {
        let word = |id: &i64| match *id {
            EOS => String::new(),
            id => format!("{}{}", if id < 100 { " " } else { "" }, char::from(b'a' + (id % 100) as u8)),
        };
        ids.iter().map(word).collect()
    }
}

const EOS: i64 = 99;

/// Says the same to all.
struct Fixed(Form, Vec<Answer>);

impl Answers for Fixed {
    fn engine(&self) -> Engine {
        Engine { name: "fixed".to_owned(), version: String::new(), settings: String::new() }
    }

    fn form(&self) -> Form {
        self.0
    }

    fn answer(&mut self, _: &[Question]) -> Result<Vec<Answer>, RuntimeError> {
        Ok(self.1.clone())
    }
}

fn sample(original: Original) -> Sample {
    let (input, target, target_ids) = (String::new(), None, Vec::new());
    Sample { input, target, source: Input::tokens(vec![1]), original, target_ids }
}

fn expected(tokens: &[i64], ended: bool) -> Generated {
    Generated { prompt: vec![50], tokens: tokens.to_vec(), ended }
}

fn asked(engine: &mut Fixed, original: Original, reference: Generated) -> Result<Vec<Said>, AskError> {
    let greedy = Greedy::from(&Generation::plain(50, &[EOS], 0, 4));
    ask(engine, &[sample(original)], (&Letters, &greedy), &[reference], &Quiet)
}

fn said(text: &str, ended: bool, reference: Generated) -> Said {
    let answer = Answer { words: Words::Text(text.to_owned()), ended };
    let found = asked(&mut Fixed(Form::Text, vec![answer]), Original::Text("x".to_owned()), reference);
    found.expect("answered").remove(0)
}

#[test]
fn the_same_words_are_the_same_tokens_whatever_spaces_stand_around_them() {
    let reference = expected(&[0, 1, EOS], true);
    let found = said("a b", true, reference.clone());
    assert_eq!((found.generated, found.text.as_str()), (reference, " a b"), "spelled as what was expected");
    let endless = expected(&[0, 1, 2, 3], false);
    assert_eq!(said("a b c d", true, endless.clone()).generated, endless);
}

#[test]
fn other_words_share_what_they_can_with_what_was_expected() {
    // The reference begins with a space, and the engine leaves it out.
    assert_eq!(said("a c", true, expected(&[0, 1, EOS], true)).generated.tokens, [0, 2, EOS]);
    assert_eq!(said("a c", true, expected(&[100, 1, EOS], true)).generated.tokens, [100, 2, EOS]);
    let cut = said("a c", false, expected(&[0, 1, EOS], true)).generated;
    assert_eq!((cut.tokens, cut.ended), (vec![0, 2], false));
    let Said { generated: long, text } = said("a b c d e f", true, expected(&[0, 1, EOS], true));
    assert_eq!((long.tokens, long.ended), (vec![0, 1, 2, 3], false), "at the limit of the decoding");
    assert_eq!(text, " a b c d");
    assert_eq!(said("", true, expected(&[0, EOS], true)).generated.tokens, [EOS]);
}

#[test]
fn what_cannot_be_asked_is_told_and_fails_nothing() {
    let sound = || Fixed(Form::Sound, Vec::new());
    for (original, found) in [(Original::Drawn, "drawn numbers"), (Original::Text("x".to_owned()), "texts")] {
        match asked(&mut sound(), original, expected(&[], true)) {
            Err(AskError::Unasked(why)) => assert_eq!(why, format!("the engine takes clips, and the data has {found}")),
            other => panic!("{other:?}"),
        }
    }
    match asked(&mut sound(), Original::Clip("nowhere.wav".into()), expected(&[], true)) {
        Err(AskError::Runtime(error)) => assert!(error.to_string().contains("nowhere.wav"), "{error}"),
        other => panic!("{other:?}"),
    }
    let none = asked(&mut Fixed(Form::Text, Vec::new()), Original::Text("x".to_owned()), expected(&[], true));
    assert!(matches!(none, Err(AskError::Runtime(error)) if error.to_string().contains("expected 1 answers, found 0")));
}
