//! VisionEncoderDecoder: modeling_vision_encoder_decoder.py of transformers 5.23, which puts one of its image encoders before one
//! of its decoders. TrOCR is such a pair, and so are manga-ocr, the captioners made of ViT and GPT-2, Donut and Nougat.

mod bert;
mod config;
mod gpt2;
mod mbart;
mod source;
mod swin;
mod trocr;
mod vit;

use std::collections::BTreeMap;

use checkpoint::Checkpoint;
use checkpoint::gguf::Value;
use frontend::Kind;
use graph::{BATCH, Build, DEC, Dim, Type};

use self::config::Config;
use self::source::Source;
use super::layers::gguf_of_images;
use super::module::Module;
use crate::architecture::{Architecture, Semantics};
use crate::error::ImportError;

/// The family.
pub(super) struct VisionEncoderDecoder;

impl Architecture for VisionEncoderDecoder {
    fn model_types(&self) -> &'static [&'static str] {
        &["vision-encoder-decoder"]
    }

    fn build<'b>(&self, b: &'b Build, checkpoint: &'b Checkpoint) -> Result<Semantics, ImportError> {
        let c = Config::read(checkpoint)?;
        // Of the first token alone, which no decoder reads.
        checkpoint.carry_tensors(|name| name.starts_with("encoder.pooler."));
        let [height, width] = c.encoder.image();
        let pixels = [Dim::from(BATCH), c.encoder.channels().len.into(), height.into(), width.into()];
        let pixel_values = b.input("pixel_values", Type::f32(pixels));
        let decoder_input_ids = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));

        let encoder_hidden = c.encoder.write(b, &Module::new(b, checkpoint, "encoder"), pixel_values);
        let memory = c.projection.map_or(encoder_hidden, |width| {
            let _decoder = b.scope("decoder");
            let whole = Module::new(b, checkpoint, "");
            whole.linear(encoder_hidden, "enc_to_dec_proj", [width, c.encoder.width()])
        });
        let width = c.projection.unwrap_or(c.encoder.width());
        let source = Source { b, checkpoint, ids: decoder_input_ids, memory, width };
        let logits = c.decoder.write(&source);

        let inputs = [("pixel_values", pixel_values), ("decoder_input_ids", decoder_input_ids)];
        b.entry("full", &inputs, &[("logits", logits), ("encoder_hidden", encoder_hidden)], BTreeMap::new());
        Ok(Semantics { reference: "transformers 5.23", logit_scale: "none: no decoder of these scales".to_owned() })
    }

    fn head(&self, checkpoint: &Checkpoint) -> &'static str {
        let decoder = checkpoint.config().section_if_given("decoder").and_then(|c| c.str("model_type"));
        match decoder {
            Some("bert") => bert::HEAD,
            Some("gpt2") => gpt2::HEAD,
            Some("mbart") => mbart::HEAD,
            _ => trocr::HEAD,
        }
    }

    fn is_transposed(&self, name: &str) -> bool {
        gpt2::is_conv1d(name)
    }

    fn front_end(&self) -> Kind {
        Kind::Image
    }

    fn assumes(&self) -> &'static [&'static str] {
        &[
            "images have the size of config.json: positions are never interpolated",
            "a head with weights of its own counts, as in transformers 5; 4.57 takes the embeddings for it unless \
             decoder.tie_word_embeddings is false",
            "images are resized as the image processors for Pillow up to version 12 do it; those for torchvision, and Pillow 13, give \
             pixels that are a level or two of 255 off here and there, and transformers.js others by far where an image shrinks much",
        ]
    }

    fn gguf_names(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    fn gguf_metadata(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, Value)>, ImportError> {
        Err(gguf_of_images(checkpoint, "vision-encoder-decoder"))
    }
}
