//! What VisionEncoderDecoder reads of config.json: two configs of other families, and how they meet.

use checkpoint::{self, Checkpoint, Size};
use graph::Val;

use super::source::Source;
use super::{bert, gpt2, trocr, vit};
use crate::error::ImportError;
use crate::import::layers::WITHOUT_EFFECT;

/// What `PretrainedConfig` of transformers 4 writes into both configs inside, beside [`WITHOUT_EFFECT`]; and of the image
/// encoders, what their other heads read.
const IGNORED: &[&str] = &[
    "exponential_decay_length_penalty",
    "finetuning_task",
    "pruned_heads",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
];

/// config.json as VisionEncoderDecoderConfig reads it.
pub(super) struct Config<'c> {
    pub encoder: vit::Config,
    pub decoder: Decoder<'c>,
    /// The width that the encoder's output is projected to.
    pub projection: Option<Size>,
}

/// One of the decoders.
pub(super) enum Decoder<'c> {
    Bert(bert::Config<'c>),
    Gpt2(gpt2::Config<'c>),
    TrOcr(trocr::Config<'c>),
}

impl<'c> Decoder<'c> {
    /// `None`: one that is not known, which is noted.
    fn read(c: &'c checkpoint::Config, checkpoint: &Checkpoint) -> Option<Decoder<'c>> {
        match c.str("model_type") {
            Some("bert") => Some(Decoder::Bert(bert::Config::read(c, checkpoint))),
            Some("gpt2") => Some(Decoder::Gpt2(gpt2::Config::read(c, checkpoint))),
            Some("trocr") => Some(Decoder::TrOcr(trocr::Config::read(c, checkpoint))),
            _ => {
                c.unsupported("model_type", "expected bert, gpt2 or trocr for the decoder");
                None
            }
        }
    }

    fn width(&self) -> Size {
        match self {
            Decoder::Bert(c) => c.width(),
            Decoder::Gpt2(c) => c.width(),
            Decoder::TrOcr(c) => c.width(),
        }
    }

    /// The logits.
    pub fn write(&self, source: &Source<'c>) -> Val<'c> {
        match self {
            Decoder::Bert(c) => c.write(source),
            Decoder::Gpt2(c) => c.write(source),
            Decoder::TrOcr(c) => c.write(source),
        }
    }
}

impl<'c> Config<'c> {
    /// Errors: keys that are missing, or that say what this family does not compute.
    pub fn read(checkpoint: &'c Checkpoint) -> Result<Config<'c>, ImportError> {
        let c = checkpoint.config();
        c.only("is_encoder_decoder", true);
        c.ignore(WITHOUT_EFFECT);
        c.ignore(IGNORED);
        // Of the whole they say nothing: it is no decoder, and its parts have widths and vocabularies of their own.
        c.ignore(&[
            "add_cross_attention",
            "cross_attention_hidden_size",
            "is_decoder",
            "processor_class",
            "vocab_size",
        ]);
        let (Some(of_encoder), Some(of_decoder)) = (c.section("encoder"), c.section("decoder")) else {
            return Err(checkpoint.does_not_fit().into());
        };
        for section in [of_encoder, of_decoder] {
            section.only("is_encoder_decoder", false);
            section.ignore(WITHOUT_EFFECT);
            section.ignore(IGNORED);
        }
        of_encoder.only("is_decoder", false);
        of_encoder.only("add_cross_attention", false);
        of_encoder.ignore(&["cross_attention_hidden_size"]);
        // What makes a decoder of these is set by the class around them.
        of_decoder.ignore(&["add_cross_attention", "is_decoder"]);
        let encoder = vit::Config::read(of_encoder, checkpoint);
        let decoder = Decoder::read(of_decoder, checkpoint);
        let crossed = of_decoder.usize_if_given("cross_attention_hidden_size");
        let (Some(encoder), Some(decoder)) = (encoder, decoder) else {
            return Err(checkpoint.does_not_fit().into());
        };
        if let Some(found) = crossed.filter(|found| *found != encoder.width.len) {
            let why = format!("expected encoder.hidden_size = {}", encoder.width.len);
            of_decoder.unsupported("cross_attention_hidden_size", format!("{why}, found {found}"));
        }
        checkpoint.config_fits()?;
        let differ = encoder.width.len != decoder.width().len;
        let projection = (differ && crossed.is_none()).then(|| decoder.width());
        Ok(Config { encoder, decoder, projection })
    }
}
