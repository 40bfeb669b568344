//! ViT and DeiT: modeling_{vit,deit}.py of transformers 5.23. Patches of an image as tokens, behind one that stands for all of it;
//! DeiT has a second such token, which it was distilled into.

use checkpoint::{self, Checkpoint, Size};
use graph::{BATCH, Build, Dim, Unary, Val};

use crate::import::layers::{activation, attention, check_heads, head_scale};
use crate::import::module::Module;

/// Training, and what the pooler and the head of masked images read.
const IGNORED: &[&str] =
    &["attention_probs_dropout_prob", "encoder_stride", "hidden_dropout_prob", "pooler_act", "pooler_output_size"];

/// ViT or DeiT.
#[derive(Clone, Copy)]
pub(super) struct Family {
    /// Before the patches.
    tokens: &'static [&'static str],
}

impl Family {
    /// By the word of `model_type`.
    pub fn called(found: Option<&str>) -> Option<Family> {
        match found {
            Some("vit") => Some(Family { tokens: &["cls_token"] }),
            Some("deit") => Some(Family { tokens: &["cls_token", "distillation_token"] }),
            _ => None,
        }
    }
}

const ONE: Size = Size { len: 1, name: "1" };

/// config.json's `encoder` as ViTConfig and DeiTConfig read it.
pub(super) struct Config {
    /// Height and width.
    pub image: [usize; 2],
    pub channels: Size,
    pub width: Size,
    family: Family,
    patch: [usize; 2],
    ffn: Size,
    heads: Size,
    layers: usize,
    activation: Unary,
    eps: f32,
    qkv_bias: bool,
}

impl Config {
    pub fn read(c: &checkpoint::Config, checkpoint: &Checkpoint, family: Family) -> Config {
        c.ignore(IGNORED);
        let width = c.size("hidden_size");
        let heads = c.size("num_attention_heads");
        check_heads(c, heads, width);
        let (image, patch) = (c.lengths_or("image_size", 224), c.lengths_or("patch_size", 16));
        if image.iter().zip(patch).any(|(image, patch)| *image < patch) {
            c.unsupported("patch_size", format!("expected at most image_size = {image:?}"));
        }
        Config {
            image,
            channels: Size { len: c.usize_or("num_channels", 3), name: "num_channels" },
            width,
            family,
            patch,
            ffn: c.size("intermediate_size"),
            heads,
            layers: checkpoint.layers_of(c, "num_hidden_layers"),
            activation: activation(c, "hidden_act", "gelu"),
            eps: c.f32_or("layer_norm_eps", 1e-12),
            qkv_bias: c.bool_or("qkv_bias", true),
        }
    }

    /// `[b, channels, height, width] -> [b, tokens + patches, hidden_size]`
    pub fn write<'b>(&self, b: &'b Build, w: &Module<'b>, pixels: Val<'b>) -> Val<'b> {
        let mut x = self.embed(b, &w.at("embeddings"), pixels);
        for i in 0..self.layers {
            let _layer = b.scope(format!("encoder.{i}"));
            let layer = w.at(format!("encoder.layer.{i}"));
            {
                let _attn = b.scope("attn");
                let y = layer.layer_norm(x, "layernorm_before", self.width, self.eps);
                x = x + self.attention(&layer.at("attention"), y);
            }
            let _ffn = b.scope("ffn");
            let y = layer.layer_norm(x, "layernorm_after", self.width, self.eps);
            let hidden = layer.linear(y, "intermediate.dense", [self.ffn, self.width]).activation(self.activation);
            x = x + layer.linear(hidden, "output.dense", [self.width, self.ffn]);
        }
        let _stack = b.scope("encoder");
        w.layer_norm(x, "layernorm", self.width, self.eps)
    }

    /// Patches row by row behind their tokens, with positions.
    fn embed<'b>(&self, b: &'b Build, w: &Module<'b>, pixels: Val<'b>) -> Val<'b> {
        let _stack = b.scope("encoder");
        let [rows, columns] = [0, 1].map(|axis| self.image[axis] / self.patch[axis]);
        let side = |axis: usize| Size { len: self.patch[axis], name: "patch_size" };
        let projection = "patch_embeddings.projection";
        let kernel = w.get(projection, [self.width, self.channels, side(0), side(1)]);
        let patches = pixels.conv2d(kernel, self.patch, [0, 0], 1);
        let patches = patches.reshape([BATCH.into(), self.width.len.into(), (rows * columns).into()]).t();
        let patches = patches + w.bias(projection, self.width);
        // As a row each: of one image, without a batch, they are put before the patches as they are.
        let token = |name: &&str| {
            let token = w.tensor(name, [ONE, ONE, self.width]).reshape([1.into(), self.width.len.into()]);
            token.broadcast([Dim::from(BATCH), 1.into(), self.width.len.into()])
        };
        let x: Vec<Val<'b>> = self.family.tokens.iter().map(token).chain([patches]).collect();
        let count = Size { len: self.family.tokens.len() + rows * columns, name: "patches and the tokens before them" };
        let positions = w.tensor("position_embeddings", [ONE, count, self.width]);
        b.concat(&x, 1) + positions.reshape([count.len.into(), self.width.len.into()])
    }

    fn attention<'b>(&self, w: &Module<'b>, x: Val<'b>) -> Val<'b> {
        let shape = [self.width, self.width];
        let heads = ["query", "key", "value"].map(|name| {
            let w = w.at("attention");
            let bias = self.qkv_bias.then(|| w.bias(name, self.width));
            x.linear(w.get(name, shape), bias).heads(self.heads.len)
        });
        w.linear(attention(heads, head_scale(self.width, self.heads), None), "output.dense", shape)
    }
}
