//! safetensors: the checkpoint's own names, floats as they are and integer codes as compressed-tensors stores them.
//!
//! # Floats
//!
//! A weight keeps its type, or is widened to f32. `dtype` of config.json is the type of all weights, f32 when they differ.
//!
//! # Codes
//!
//! Of a weight `X.weight`, `[rows, columns]`, in groups of g columns (`channel`: one group a row):
//!
//! | | `pack-quantized` | `int-quantized` |
//! | --- | --- | --- |
//! | codes | `X.weight_packed` i32 `[rows, ⌈columns · bits / 32⌉]` | `X.weight` i8 `[rows, columns]` |
//! | scales | `X.weight_scale` f32 `[rows, columns / g]` | same |
//! | zeros, when asymmetric | `X.weight_zero_point` i32 `[⌈rows · bits / 32⌉, columns / g]` | i8 `[rows, columns / g]` |
//! | shape | `X.weight_shape` i64 `[2]` | |
//!
//! Packing adds `2^(bits-1)`; element j stands at bit `j · bits` of its row (zeros: of its column), little-endian. Sources:
//! compressors/pack_quantized and naive_quantized of compressed-tensors 0.20.0.
//!
//! Scales are f16 numbers stored as f32 and `dtype` of config.json is float32, because transformers multiplies codes and
//! scales in the type of the scale: 8-bit codes times 11-bit scales need 19 bits.
//!
//! Codes that are small floats have no zeros, and weights alone, decoded while loading:
//!
//! | | `float-quantized` (FP8) | `mxfp4-pack-quantized` |
//! | --- | --- | --- |
//! | codes | `X.weight` F8_E4M3 `[rows, columns]` | `X.weight_packed` U8 `[rows, columns / 2]` |
//! | scales | `X.weight_scale` F32 `[rows, 1]`, or `[1]` for the tensor | U8 `[rows, columns / 32]`, E8M0: `2^(byte - 127)` |
//!
//! Byte i of a row of E2M1 codes is weight 2i low and weight 2i + 1 high. transformers takes their products in bf16, which holds them.
//! Sources: compressors/naive_quantized, mxfp4 and nvfp4 of compressed-tensors 0.20.0. One config group holds them; a model
//! has one kind of codes.
//!
//! # Which of the two
//!
//! Weights alone are `pack-quantized` with `dequantize: true`: transformers 5.23 then decodes every weight while it
//! loads. Without that key it decodes at the first call of the whole model, which `generate` never reaches because it
//! calls the encoder alone, and T5 with packed weights does not even load. Decoding while loading uses the first config
//! group for all weights, so there is one: the widest bits, the largest group that divides all, zeros if anyone has them.
//! Scales are repeated where a weight has coarser groups, which changes no number.
//!
//! Rounded activations (`DynamicQuant`) exist only without `dequantize`. Then codes are `int-quantized`, one config group
//! for each kind; only Linears can have codes; and `model(…)` has to be called once before `generate`.

mod compressed;
mod container;
mod layout;
mod options;
mod read;
mod small_floats;
mod tensor;

use std::path::Path;

use graph::Weights;

use crate::artifact::Artifact;
use crate::error::ExportError;
use crate::export::companions::copy_companions;
use crate::format::Format;
use crate::model::Model;
use layout::Layout;

pub use options::{Dtype, Safetensors};

impl Format for Safetensors {
    fn name(&self) -> &'static str {
        "safetensors"
    }

    fn prepare(&self, _model: &mut Model) -> Result<Vec<String>, ExportError> {
        Ok(Vec::new())
    }

    fn check(&self, model: &Model) -> Result<(), ExportError> {
        if let Some(c) = model.folded_logit_scale {
            let message = format!(
                "the weight of the last norm is multiplied by {c} in {}, and transformers would scale once more: convert the \
                 checkpoint that it was made from",
                model.checkpoint.config_file().display()
            );
            return Err(ExportError::Unsupported { format: "safetensors", message });
        }
        model.check_eps("safetensors")?;
        Layout::of(self, model).map(drop)
    }

    fn write(&self, model: &Model, dir: &Path) -> Result<Artifact, ExportError> {
        let layout = Layout::of(self, model)?;
        copy_companions(model, dir)?;
        layout.write_config(model, dir)?;
        container::write(&layout.tensors(), self.shard_size_mb.get().saturating_mul(1_000_000), dir)?;
        Artifact::list(self.name(), dir).map_err(|source| ExportError::Io { file: dir.to_owned(), source })
    }

    fn read_weights(&self, model: &Model, artifact: &Artifact) -> Result<Weights, ExportError> {
        read::weights(model, artifact)
    }
}
