//! What VisionEncoderDecoder reads of config.json: two configs of other families, and how they meet.

use checkpoint::{self, Checkpoint, Size};
use graph::{Build, Val};

use super::source::Source;
use super::{bert, gpt2, mbart, swin, trocr, vit};
use crate::error::ImportError;
use crate::import::layers::WITHOUT_EFFECT;
use crate::import::module::Module;

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
    pub encoder: Encoder,
    pub decoder: Decoder<'c>,
    /// The width that the encoder's output is projected to.
    pub projection: Option<Size>,
}

/// One of the encoders.
pub(super) enum Encoder {
    Swin(swin::Config),
    Vit(vit::Config),
}

impl Encoder {
    /// `None`: one that is not known or does not fit, which is noted.
    fn read(c: &checkpoint::Config, checkpoint: &Checkpoint) -> Option<Encoder> {
        let found = c.str("model_type");
        if found == Some(swin::MODEL_TYPE) {
            return swin::Config::read(c, checkpoint).map(Encoder::Swin);
        }
        if let Some(family) = vit::Family::called(found) {
            return Some(Encoder::Vit(vit::Config::read(c, checkpoint, family)));
        }
        c.unsupported("model_type", "expected vit, deit or donut-swin for the encoder of images");
        None
    }

    /// Height and width of an image.
    pub fn image(&self) -> [usize; 2] {
        match self {
            Encoder::Swin(c) => c.image,
            Encoder::Vit(c) => c.image,
        }
    }

    pub fn channels(&self) -> Size {
        match self {
            Encoder::Swin(c) => c.channels,
            Encoder::Vit(c) => c.channels,
        }
    }

    pub fn width(&self) -> Size {
        match self {
            Encoder::Swin(c) => c.width,
            Encoder::Vit(c) => c.width,
        }
    }

    /// `[b, channels, height, width] -> [b, tokens, hidden_size]`
    pub fn write<'b>(&self, b: &'b Build, w: &Module<'b>, pixels: Val<'b>) -> Val<'b> {
        match self {
            Encoder::Swin(c) => c.write(b, w, pixels),
            Encoder::Vit(c) => c.write(b, w, pixels),
        }
    }
}

/// One of the decoders.
pub(super) enum Decoder<'c> {
    Bert(bert::Config<'c>),
    Gpt2(gpt2::Config<'c>),
    MBart(mbart::Config<'c>),
    TrOcr(trocr::Config<'c>),
}

impl<'c> Decoder<'c> {
    /// `None`: one that is not known, which is noted.
    fn read(c: &'c checkpoint::Config, checkpoint: &Checkpoint) -> Option<Decoder<'c>> {
        match c.str("model_type") {
            Some("bert") => Some(Decoder::Bert(bert::Config::read(c, checkpoint))),
            Some("gpt2") => Some(Decoder::Gpt2(gpt2::Config::read(c, checkpoint))),
            Some("mbart") => Some(Decoder::MBart(mbart::Config::read(c, checkpoint))),
            Some("trocr") => Some(Decoder::TrOcr(trocr::Config::read(c, checkpoint))),
            _ => {
                c.unsupported("model_type", "expected bert, gpt2, mbart or trocr for the decoder");
                None
            }
        }
    }

    fn width(&self) -> Size {
        match self {
            Decoder::Bert(c) => c.width(),
            Decoder::Gpt2(c) => c.width(),
            Decoder::MBart(c) => c.width(),
            Decoder::TrOcr(c) => c.width(),
        }
    }

    /// The logits.
    pub fn write(&self, source: &Source<'c>) -> Val<'c> {
        match self {
            Decoder::Bert(c) => c.write(source),
            Decoder::Gpt2(c) => c.write(source),
            Decoder::MBart(c) => c.write(source),
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
        let encoder = Encoder::read(of_encoder, checkpoint);
        let decoder = Decoder::read(of_decoder, checkpoint);
        let crossed = of_decoder.usize_if_given("cross_attention_hidden_size");
        let (Some(encoder), Some(decoder)) = (encoder, decoder) else {
            return Err(checkpoint.does_not_fit().into());
        };
        if let Some(found) = crossed.filter(|found| *found != encoder.width().len) {
            let why = format!("expected encoder.hidden_size = {}", encoder.width().len);
            of_decoder.unsupported("cross_attention_hidden_size", format!("{why}, found {found}"));
        }
        checkpoint.config_fits()?;
        let differ = encoder.width().len != decoder.width().len;
        let projection = (differ && crossed.is_none()).then(|| decoder.width());
        Ok(Config { encoder, decoder, projection })
    }
}
