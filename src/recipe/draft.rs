//! A recipe that nobody wrote: its text from what is known of a checkpoint and of what is wanted.

use std::fmt::Write;

use frontend::Kind;
use quant::Scheme;

use crate::recipe::purpose::{Purpose, Shape};
use crate::recipe::samples::line_and_samples;

/// What a family does, and what a user of it should know.
struct Family {
    /// Words of config.json's `model_type`.
    model_types: &'static [&'static str],
    /// The figure that its answers are scored by.
    metric: &'static str,
    /// Sentences of the recipe's head.
    notes: &'static [&'static str],
    /// Languages, where it has several.
    languages: Option<&'static str>,
}

const NOT_LLAMA: &str = "llama.cpp runs no encoder-decoder but T5: the GGUF runs in trefoil's engine on ggml.";
const F16_OVERFLOWS: &str =
    "Their activations can pass 65504 in `wo`, so never run these models in float16: bfloat16 and float32 are fine.";

const OF_IMAGES: &[&str] = &[
    "No engine reads an encoder-decoder that sees out of a GGUF.",
    "Convolutions, positions and norms stay as they are.",
];

/// Families that want something else than the last.
const FAMILIES: [Family; 10] = [
    Family { model_types: &["t5", "mt5", "umt5"], metric: "chrf", notes: &[F16_OVERFLOWS], languages: None },
    Family {
        model_types: &["m2m_100"],
        metric: "chrf",
        notes: &[NOT_LLAMA],
        languages: Some("{ source_lang: en, target_lang: de }  # NLLB: eng_Latn, deu_Latn"),
    },
    Family {
        model_types: &["mbart"],
        metric: "chrf",
        notes: &[NOT_LLAMA],
        languages: Some("{ source_lang: en_XX, target_lang: de_DE }"),
    },
    Family {
        model_types: &["plbart"],
        metric: "bleu",
        notes: &[NOT_LLAMA],
        languages: Some("{ source_lang: java, target_lang: en_XX }"),
    },
    Family { model_types: &["pegasus", "bart"], metric: "rouge_l", notes: &[NOT_LLAMA], languages: None },
    Family {
        model_types: &["whisper", "moonshine"],
        metric: "word_error_rate",
        notes: &[NOT_LLAMA, "Convolutions, positions and norms stay as they are."],
        languages: None,
    },
    Family {
        model_types: &["vision-encoder-decoder"],
        metric: "character_error_rate",
        notes: OF_IMAGES,
        languages: None,
    },
    Family { model_types: &["florence2"], metric: "chrf", notes: OF_IMAGES, languages: None },
    Family {
        model_types: &["mu"],
        metric: "chrf",
        notes: &[NOT_LLAMA, "transformers has no Mu, so the safetensors artifact is read back and not run."],
        languages: None,
    },
    Family { model_types: &[], metric: "chrf", notes: &[NOT_LLAMA], languages: None },
];

fn family(model_type: &str) -> &'static Family {
    let known = FAMILIES.iter().find(|family| family.model_types.contains(&model_type));
    known.unwrap_or(&FAMILIES[FAMILIES.len() - 1])
}

/// What is known of a checkpoint.
#[derive(Clone, Debug)]
pub struct About {
    /// What it is called.
    pub name: String,
    /// config.json's word.
    pub model_type: String,
    /// What its encoder reads.
    pub reads: Kind,
    /// Whether the head has a weight of its own.
    pub has_head: bool,
    /// Whether its feed-forward layers end in T5's `wo`.
    pub has_wo: bool,
}

/// What is wanted of it.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// As the recipe's `model` says it.
    pub model: String,
    /// As the recipe's `out` says it.
    pub out: String,
    /// Instead of the usual one.
    pub scheme: Option<Scheme>,
    /// Samples that judge, and whether they have targets.
    pub data: Option<(String, bool)>,
    /// Samples that codes and steps are chosen on.
    pub calibration: Option<String>,
}

/// An artifact of a draft.
#[derive(Clone, PartialEq, Debug)]
pub struct Leaf {
    pub name: String,
    about: &'static str,
    format: &'static str,
    options: String,
    /// Lines of `quantize`.
    quantize: Vec<String>,
    /// Bits of its weights, nearly.
    bits: u8,
    /// Whether it watches the model decode.
    pub is_calibrated: bool,
}

/// A scheme for a format, or why there is none.
fn scheme_for(shape: Shape, wanted: Option<Scheme>) -> Result<Scheme, String> {
    let named = |name: &str| name.parse::<Scheme>().expect("one of the list");
    let is_ggml = |scheme| matches!(scheme, Scheme::Ggml(_));
    match (shape, wanted) {
        (Shape::Gguf(_) | Shape::WhisperCpp, None) => Ok(named("q8_0")),
        // Blocks with the same bits, which llama.cpp computes with.
        (Shape::Gguf(_) | Shape::WhisperCpp, Some(Scheme::Affine { bits: 8, .. })) => Ok(named("q8_0")),
        (Shape::WhisperCpp, Some(Scheme::Affine { .. })) => Ok(named("q4_0")),
        (Shape::Gguf(_), Some(Scheme::Affine { .. })) => Ok(named("q4_k")),
        (Shape::Npu(_), None) if shape.activation_bits().is_none() => Ok(Scheme::Keep),
        // Its scales are written as what they are the inverse of.
        (Shape::CTranslate2, None | Some(Scheme::Affine { bits: 8, symmetric: true, .. })) => Ok(Scheme::INVERTED),
        (_, None) => Ok(named("int8")),
        (Shape::Gguf(_) | Shape::WhisperCpp, Some(scheme)) => Ok(scheme),
        (_, Some(scheme)) if is_ggml(scheme) => {
            Err(format!("{scheme} is a type of GGUF; a scheme such as int4-g32 becomes the blocks of its bits there"))
        }
        (_, Some(scheme)) => Ok(scheme),
    }
}

/// Bits of a weight's codes.
fn bits(scheme: Scheme) -> u8 {
    match scheme {
        Scheme::Keep | Scheme::Float(_) => 16,
        Scheme::Affine { bits, .. } => bits,
        other => match other.name().trim_start_matches(|c: char| !c.is_ascii_digit()).chars().next() {
            Some(digit @ '1'..='9') => digit as u8 - b'0',
            _ => 8,
        },
    }
}

impl Leaf {
    /// The artifact for a purpose. Errors: no scheme like this in its format.
    pub fn new(purpose: &Purpose, about: &About, wish: &Wish) -> Result<Leaf, String> {
        let shape = purpose.shape;
        let scheme = scheme_for(shape, wish.scheme)?;
        let (bits, activations) = (bits(scheme), shape.activation_bits());
        let mut quantize = vec![format!("scheme: {scheme}")];
        let by_decoding = wish.calibration.is_some() && bits <= 8;
        if bits == 4 && matches!(scheme, Scheme::Affine { .. }) {
            quantize.push("clip: mse  # the range with the least error".to_owned());
        }
        if by_decoding {
            quantize.push("method: gptq  # each code makes good for the errors before it".to_owned());
        }
        match activations {
            Some(8) => {
                quantize.push("equalize: smoothquant".to_owned());
                quantize.push("activations: { static: { bits: 8, range: mse } }".to_owned());
            }
            Some(bits) => quantize.push(format!("activations: {{ static: {{ bits: {bits} }} }}")),
            None if shape == Shape::TRANSFORMERS_JS && scheme.name() == "int8" => {
                let why = "WebAssembly has fast products of integers, and slow ones of floats with codes of 8 bits";
                quantize.push(format!("activations: dynamic  # {why}"));
            }
            None => {}
        }
        quantize.extend(rules(shape, scheme, bits, about));
        let options = match shape {
            Shape::Onnx(options) => options.to_owned(),
            // A GGUF is called by its folder otherwise, which in the hub's cache is a commit.
            Shape::Gguf(engine) => {
                let engine = engine.map_or(String::new(), |engine| format!("for: {engine}, "));
                format!("{{ {engine}name: {} }}", scalar(&about.name))
            }
            Shape::Safetensors | Shape::CTranslate2 | Shape::WhisperCpp => "{}".to_owned(),
            Shape::Npu(profile) => {
                let keys = if activations == Some(16) { ", key_bits: 16" } else { "" };
                format!("{{ profile: {profile}, source: [128], target: 64{keys} }}")
            }
        };
        let is_calibrated = by_decoding || activations.is_some();
        let (name, about, format) = (purpose.word.to_owned(), purpose.about, shape.format());
        Ok(Leaf { name, about, format, options, quantize, bits, is_calibrated })
    }

    /// Whether two are one artifact.
    pub fn is_same(&self, other: &Leaf) -> bool {
        (self.format, &self.options, &self.quantize) == (other.format, &other.options, &other.quantize)
    }

    fn write(&self, out: &mut String, is_only: bool) {
        let name = if is_only { self.format } else { &self.name };
        let _ =
            writeln!(out, "  # {}\n  - name: {name}\n    {}: {}\n    quantize:", self.about, self.format, self.options);
        for line in &self.quantize {
            let _ = writeln!(out, "      {line}");
        }
    }
}

/// Weights that a consumer of the format wants in another scheme, or that lose more than they save.
fn rules(shape: Shape, scheme: Scheme, bits: u8, about: &About) -> Vec<String> {
    let mut rules = Vec::new();
    match (shape, scheme) {
        // transformers reads one width and one group size for a whole model.
        (Shape::Safetensors, Scheme::Affine { bits: 4, .. }) => {
            rules.push("  - { role: embedding, scheme: f16 }".to_owned());
            if about.has_head {
                rules.push("  - { role: head, scheme: f16 }".to_owned());
            }
            if about.has_wo {
                rules.push(format!("  - {{ match: \"*.wo.weight\", scheme: {scheme} }}"));
            }
        }
        (Shape::Onnx(_) | Shape::Safetensors, _) if bits == 8 && about.has_head && about.has_wo => {
            rules.push("  - { role: head, scheme: f16 }  # costs little and keeps rare words".to_owned());
        }
        _ => {}
    }
    if !rules.is_empty() {
        rules.insert(0, "rules:".to_owned());
    }
    rules
}

/// A recipe before it is text.
pub struct Draft<'a> {
    pub about: &'a About,
    pub wish: &'a Wish,
    /// What is written. At least one.
    pub leaves: Vec<Leaf>,
    /// What cannot be, and why.
    pub left_out: Vec<(&'static str, String)>,
}

impl Draft<'_> {
    /// The recipe, with its reasons as comments.
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.head(&mut out);
        let (about, wish) = (self.about, self.wish);
        let moves = wish.model.starts_with(hub::PREFIX) && !wish.model.contains('@');
        let note = if moves { "  # `@COMMIT` behind it stays at one commit" } else { "" };
        let _ = writeln!(out, "\nmodel: {}{note}\nout: {}", scalar(&wish.model), scalar(&wish.out));
        if let Some(languages) = family(&about.model_type).languages {
            let _ = writeln!(
                out,
                "\n# The languages of the texts, where tokenizer_config.json does not say.\n# languages: {languages}"
            );
        }
        self.calibrate(&mut out);
        let _ = writeln!(out, "\nartifacts:");
        for (index, leaf) in self.leaves.iter().enumerate() {
            let is_only = self.leaves.iter().filter(|other| other.format == leaf.format).count() == 1;
            if index > 0 {
                out.push('\n');
            }
            leaf.write(&mut out, is_only);
        }
        for (word, why) in &self.left_out {
            let _ = writeln!(out, "\n  # Left out: {word}: {}", why.replace('\n', "\n  #   "));
        }
        self.validate(&mut out);
        out
    }

    fn head(&self, out: &mut String) {
        let About { name, model_type, .. } = self.about;
        let _ = writeln!(
            out,
            "# {}, a model of the family {}. Every line may be changed: `trefoil recipe check FILE` shows what\n\
             # becomes of each weight, `trefoil recipe schema` all that a recipe may say.",
            plain(name),
            plain(model_type)
        );
        for note in family(model_type).notes {
            let _ = writeln!(out, "#\n# {note}");
        }
    }

    fn calibrate(&self, out: &mut String) {
        if !self.leaves.iter().any(|leaf| leaf.is_calibrated) {
            let _ = writeln!(
                out,
                "\n# Codes are the nearest ones. With some hundred samples that judge nothing, `--calibrate FILE` or the lines below and\n\
                 # `method: gptq` beside each scheme choose them while the model decodes: at 4 bits a fifth of the divergence.\n\
                 # calibrate:\n#   data: calibration.jsonl"
            );
            return;
        }
        let data = self.wish.calibration.as_ref().or(self.wish.data.as_ref().map(|(data, _)| data));
        let data = data.expect("whoever calibrates has samples");
        let _ = writeln!(out, "\n# The model decodes these samples while codes and steps are chosen.");
        if self.wish.calibration.is_none() {
            let _ = writeln!(
                out,
                "# They are those that judge, too, which flatters the figures: other ones are better (`--calibrate FILE`)."
            );
        }
        let _ = writeln!(out, "calibrate:\n  data: {}\n  samples: 128", scalar(data));
    }

    fn validate(&self, out: &mut String) {
        let metric = family(&self.about.model_type).metric;
        let bits = self.leaves.iter().map(|leaf| leaf.bits).min().unwrap_or(16);
        let (line, drawn, samples) = line_and_samples(self.about.reads);
        let _ = match &self.wish.data {
            None => writeln!(
                out,
                "\n# Without data, logits are compared on drawn inputs, and there is no task to score. Better: your own samples, one\n\
                 # JSON object a line, {line}\nvalidate:\n  # data: my-task.jsonl\n  # metric: {metric}\n  samples: {drawn}"
            ),
            Some((data, has_targets)) => {
                let metric = if *has_targets { format!("\n  metric: {metric}") } else { String::new() };
                writeln!(
                    out,
                    "\nvalidate:\n  data: {}\n  samples: {samples}  # more decide more, and take longer{metric}",
                    scalar(data)
                )
            }
        };
        let (max_kl, min_top1, why) = match bits {
            0..=7 => (
                "0.2",
                "0.9",
                "What 4 bits cost a small model, with some room; the report says what they cost this one.",
            ),
            _ => (
                "0.01",
                "0.98",
                "How far from the float model the next token's distribution may be, and how often another token comes first.",
            ),
        };
        let _ = writeln!(
            out,
            "  # {why}\n  limits:\n    max_kl: {max_kl}\n    min_top1: {min_top1}\n    max_points_lost: 1.0"
        );
    }
}

/// A name from outside, in a comment.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A text as YAML: as it is where nothing else can be read in it, else quoted as in JSON, which YAML contains.
fn scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '@' | ':');
    let is_word = text.contains('/') && !text.ends_with(':') && text.chars().all(is_plain);
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '.'));
    if is_word && begins { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_quoted_where_yaml_would_read_something_else() {
        assert_eq!(["hub:google/t5@main", "../a_b/c.jsonl"].map(scalar), ["hub:google/t5@main", "../a_b/c.jsonl"]);
        assert_eq!(
            ["null", "a b/c", "1e5", "#/a", "a/b:", "é/x"].map(scalar),
            ["\"null\"", "\"a b/c\"", "\"1e5\"", "\"#/a\"", "\"a/b:\"", "\"é/x\""]
        );
    }

    #[test]
    fn every_format_has_a_scheme_of_the_bits_that_are_wanted_or_says_why_not() {
        let scheme =
            |shape, wanted: &str| scheme_for(shape, Some(wanted.parse().expect("a scheme"))).map(|found| found.name());
        assert_eq!(scheme(Shape::Gguf(None), "int4-g32"), Ok("q4_k".to_owned()));
        assert_eq!(scheme(Shape::Gguf(None), "int8"), Ok("q8_0".to_owned()));
        assert_eq!(scheme(Shape::Onnx("{}"), "int4-g32"), Ok("int4-g32".to_owned()));
        assert!(scheme(Shape::Safetensors, "q4_k").is_err_and(|why| why.contains("is a type of GGUF")));
        for (name, expected) in
            [("q8_0", 8), ("q4_k", 4), ("mxfp4", 4), ("fp8", 8), ("int4", 4), ("bf16", 16), ("keep", 16)]
        {
            assert_eq!(bits(name.parse().expect("a scheme")), expected, "{name}");
        }
    }
}
