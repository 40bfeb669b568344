//! Clips, for models that recognize speech.

use std::path::Path;

use crate::audio::FeatureExtractor;
use crate::front_end::{Asked, FrontEnd, Original};
use crate::input::Input;
use crate::text::{Text, spoken_to_the_end};

/// For models that recognize speech: inputs are paths of clips.
pub struct Speech<'a> {
    /// Of what is said.
    pub text: &'a dyn Text,
    /// Of what is heard.
    pub extractor: FeatureExtractor,
    /// Ends what is said.
    pub eos: Option<i64>,
}

impl FrontEnd for Speech<'_> {
    fn input(&self, asked: Asked<'_>, dir: &Path) -> Result<Input, String> {
        asked.without_prompt()?;
        self.extractor.listen(&dir.join(asked.said)).map(Input::from).map_err(|error| error.to_string())
    }

    fn original(&self, said: &str, dir: &Path) -> Original {
        Original::Clip(dir.join(said))
    }

    /// Without the special tokens around a text: the decoder is prompted with its own.
    fn target(&self, text: &str) -> Result<Vec<i64>, String> {
        spoken_to_the_end(self.text, text, self.eos)
    }

    fn about(&self) -> &'static str {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Features;
    use crate::text::Ids;

    /// A tokenizer that stands ids above 7 for special tokens.
    struct Framed;

    impl Text for Framed {
        fn encode(&self, text: &str) -> Result<Vec<i64>, String> {
            Ok([&[8, 9][..], &Ids.encode(text)?, &[8]].concat())
        }

        fn decode(&self, ids: &[i64]) -> String {
            Ids.decode(&ids.iter().copied().filter(|id| *id < 8).collect::<Vec<_>>())
        }
    }

    #[test]
    fn a_spoken_target_is_its_text_and_an_end() {
        let extractor = || FeatureExtractor::open(Path::new("nowhere"), Features::LogMel).expect("defaults");
        let target = |text: &dyn Text, words: &str, eos| {
            Speech { text, extractor: extractor(), eos }.target(words).expect("ids")
        };
        assert_eq!(target(&Framed, "3 4", Some(9)), [3, 4, 9]);
        assert_eq!(target(&Framed, "", Some(9)), [9]);
        assert_eq!(target(&Framed, "3 9 4", None), [3, 9, 4]);
        assert_eq!(target(&Ids, "3 4 9", Some(9)), [3, 4, 9], "ids that have one");
    }
}
