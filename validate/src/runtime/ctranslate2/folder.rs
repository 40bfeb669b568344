//! A folder that CTranslate2's converters write: `model.bin`, `config.json` and vocabularies.

use std::io::Read;
use std::path::Path;

use converters::limits;
use serde::Deserialize;

use super::vocabulary::Vocabulary;

const MODEL: &str = "model.bin";
/// The vocabularies of models with a decoder, and the last of those that read no text.
const STEMS: [&str; 3] = ["shared_vocabulary", "source_vocabulary", SPEECH_STEM];
/// The vocabulary of a model that reads no text.
const SPEECH_STEM: &str = "vocabulary";
/// What is asked: text to text, and speech to text.
const SPECS: [&str; 2] = ["TransformerSpec", "WhisperSpec"];
/// Names of specs are shorter.
const NAME_BYTES: usize = 64;

/// Whether a folder holds a model of CTranslate2, of whatever kind.
pub fn is_ctranslate2(dir: &Path) -> bool {
    dir.join(MODEL).exists() && STEMS.iter().any(|stem| Vocabulary::exists(dir, stem))
}

/// Whether such a model reads features of speech.
pub fn hears(dir: &Path) -> bool {
    Vocabulary::exists(dir, SPEECH_STEM)
}

/// Whether such a folder can be asked. Errors: a sentence when it reads neither texts nor speech.
pub fn asked(dir: &Path) -> Result<(), String> {
    let expected = format!("expected ONNX, GGUF, safetensors, a {} or a {}", SPECS[0], SPECS[1]);
    match spec(dir).as_deref() {
        Some(known) if SPECS.contains(&known) => Ok(()),
        Some(found) => Err(format!("{expected}, found a model of CTranslate2: no engine here opens its {found}")),
        None => {
            Err(format!("{expected}, found a model of CTranslate2: no engine here opens it, for {MODEL} names no spec"))
        }
    }
}

/// The name at the head of `model.bin`: u32 version, u16 bytes, and those bytes of text, a zero last.
fn spec(dir: &Path) -> Option<String> {
    let mut head = [0; 6];
    let mut file = std::fs::File::open(dir.join(MODEL)).ok()?;
    file.read_exact(&mut head).ok()?;
    let bytes = usize::from(u16::from_le_bytes([head[4], head[5]]));
    let mut name = vec![0; Some(bytes).filter(|bytes| (2..=NAME_BYTES).contains(bytes))?];
    file.read_exact(&mut name).ok()?;
    let name = String::from_utf8(name).ok()?.strip_suffix('\0')?.to_owned();
    name.chars().all(|letter| letter.is_ascii_alphanumeric()).then_some(name)
}

/// What of `config.json` matters for a question. Absent values are those of the engine.
#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Config {
    /// The engine puts `bos_token` before each source.
    add_source_bos: bool,
    /// The engine puts `eos_token` behind each source.
    add_source_eos: bool,
    bos_token: String,
    eos_token: String,
    /// What the engine feeds the decoder first; where it is null, the caller has to say it.
    pub(super) decoder_start_token: Option<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            add_source_bos: false,
            add_source_eos: false,
            bos_token: "<s>".to_owned(),
            eos_token: "</s>".to_owned(),
            decoder_start_token: Some("<s>".to_owned()),
        }
    }
}

/// How tokens go into a model and come out of it.
pub(super) struct Folder {
    pub(super) config: Config,
    source: Option<Vocabulary>,
    /// Also of sources where these have none of their own.
    pub(super) target: Vocabulary,
}

impl Folder {
    /// Errors: a sentence when config.json or a vocabulary is absent or not what it should be.
    pub(super) fn read(dir: &Path) -> Result<Folder, String> {
        let config = limits::read_json(&dir.join("config.json")).map_err(|error| format!("config.json: {error}"))?;
        if Vocabulary::exists(dir, "source_vocabulary") {
            let source = Some(Vocabulary::read(dir, "source_vocabulary")?);
            return Ok(Folder { config, source, target: Vocabulary::read(dir, "target_vocabulary")? });
        }
        Ok(Folder { config, source: None, target: Vocabulary::read(dir, "shared_vocabulary")? })
    }

    /// The tokens of a source that the engine is given: without those that it adds itself.
    ///
    /// Errors: a sentence when an id is in no vocabulary, or when the engine adds a token that the source does not have.
    pub(super) fn source(&self, ids: &[i64]) -> Result<Vec<&str>, String> {
        let vocabulary = self.source.as_ref().unwrap_or(&self.target);
        let tokens = ids.iter().map(|id| vocabulary.token(*id)).collect::<Result<Vec<_>, _>>()?;
        let Config { add_source_bos, add_source_eos, bos_token, eos_token, .. } = &self.config;
        let mut rest = &tokens[..];
        if *add_source_bos {
            let expected =
                || format!("config.json has {bos_token} put before each source, and {ids:?} does not begin so");
            rest = rest.strip_prefix(&[bos_token.as_str()]).ok_or_else(expected)?;
        }
        if *add_source_eos {
            let expected =
                || format!("config.json has {eos_token} put behind each source, and {ids:?} does not end so");
            rest = rest.strip_suffix(&[eos_token.as_str()]).ok_or_else(expected)?;
        }
        Ok(rest.to_vec())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    /// A folder with five tokens and no weights.
    pub(in crate::runtime::ctranslate2) fn folder(spec: &str, config: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().expect("temporary folder");
        let length = u16::try_from(spec.len() + 1).expect("short").to_le_bytes();
        let model = [&6_u32.to_le_bytes()[..], &length, spec.as_bytes(), &[0]].concat();
        fs::write(home.path().join(MODEL), model).expect("written");
        fs::write(home.path().join("config.json"), config).expect("written");
        fs::write(home.path().join("shared_vocabulary.json"), r#"["<pad>","</s>","<s>","a","b"]"#).expect("written");
        home
    }

    #[test]
    fn what_reads_neither_texts_nor_speech_is_refused_by_the_name_of_its_spec() {
        let told = |spec: &str| asked(folder(spec, "{}").path());
        assert_eq!([told("TransformerSpec"), told("WhisperSpec")], [Ok(()), Ok(())]);
        let expected = "expected ONNX, GGUF, safetensors, a TransformerSpec or a WhisperSpec, found a";
        for other in ["TransformerDecoderModelSpec", "Wav2Vec2Spec"] {
            let refused = format!("{expected} model of CTranslate2: no engine here opens its {other}");
            assert_eq!(told(other), Err(refused));
        }
        let nameless = format!("{expected} model of CTranslate2: no engine here opens it, for model.bin names no spec");
        let home = folder("TransformerSpec", "{}");
        let whole = fs::read(home.path().join(MODEL)).expect("there");
        for cut in 0..whole.len() {
            fs::write(home.path().join(MODEL), &whole[..cut]).expect("written");
            assert_eq!(asked(home.path()), Err(nameless.clone()), "{cut} bytes");
        }
        assert!(is_ctranslate2(home.path()));
        fs::remove_file(home.path().join("shared_vocabulary.json")).expect("removed");
        assert!(!is_ctranslate2(home.path()));
    }

    #[test]
    fn a_source_is_given_without_what_the_engine_adds() {
        let source = |config: &str, ids: &[i64]| {
            let home = folder("TransformerSpec", config);
            let read = Folder::read(home.path()).expect("whole");
            read.source(ids).map(|tokens| tokens.join(" "))
        };
        assert_eq!(source("{}", &[2, 3, 4, 1]), Ok("<s> a b </s>".to_owned()));
        assert_eq!(source(r#"{"add_source_bos":true,"add_source_eos":true}"#, &[2, 3, 4, 1]), Ok("a b".to_owned()));
        let eos = r#"{"add_source_eos":true}"#;
        assert_eq!(source(eos, &[3, 1, 1]), Ok("a </s>".to_owned()));
        let expected = "config.json has </s> put behind each source, and [3] does not end so";
        assert_eq!(source(eos, &[3]), Err(expected.to_owned()));
        assert_eq!(source("{}", &[5]), Err("shared_vocabulary.json: expected ids below 5, found 5".to_owned()));
    }

    #[test]
    fn an_absent_part_is_named() {
        for (part, expected) in [
            ("config.json", "config.json: "),
            ("shared_vocabulary.json", "expected a vocabulary in shared_vocabulary.json or shared_vocabulary.txt"),
        ] {
            let home = folder("TransformerSpec", "{}");
            fs::remove_file(home.path().join(part)).expect("there");
            let error = Folder::read(home.path()).err().expect("refused");
            assert!(error.starts_with(expected), "{error}");
        }
        let home = folder("TransformerSpec", "{}");
        fs::write(home.path().join("source_vocabulary.txt"), "a\n").expect("written");
        let error = Folder::read(home.path()).err().expect("refused");
        assert!(error.starts_with("expected a vocabulary in target_vocabulary.json"), "{error}");
    }
}
