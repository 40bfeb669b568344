//! Two names for one thing: modules and keys of transformers' own class, and those of the code that came with microsoft's files.

/// How a checkpoint is written.
#[derive(Debug)]
pub(super) struct Layout {
    /// Before what sees.
    pub tower: &'static str,
    /// Before what brings it to the width of the text.
    pub projector: &'static str,
    /// Before both stacks of BART.
    pub stacks: &'static str,
    pub head: &'static str,
    /// Added to the logits, where a file has it.
    pub logits_bias: &'static str,
    /// The convolution of a stage.
    pub stem: &'static str,
    /// The convolutions of a block, before each of its halves.
    pub depthwise: [&'static str; 2],
    /// The first half of a block over windows, and over channels.
    pub attention: [Attention; 2],
    /// The second half: its norm and its matrices.
    pub ffn_norm: &'static str,
    pub ffn: [&'static str; 2],
    pub projection: Projection,
    /// The module of the positions.
    pub positions: &'static str,
    /// The key of the stages' widths.
    pub widths: &'static str,
    /// How many positions and how many frames there are.
    pub tables: [Key; 2],
}

/// Modules in a block.
#[derive(Debug)]
pub(super) struct Attention {
    pub norm: &'static str,
    pub qkv: &'static str,
    pub proj: &'static str,
}

/// The matrix between the two widths.
#[derive(Debug)]
pub(super) enum Projection {
    /// A module.
    Linear(&'static str),
    /// A tensor, stored as `[in, out]`.
    Transposed(&'static str),
}

/// A key of `vision_config`.
#[derive(Debug)]
pub(super) struct Key {
    /// The object around it, with its only `type`.
    pub object: Option<(&'static str, &'static str)>,
    pub name: &'static str,
}

/// transformers 5.23.
pub(super) const NATIVE: Layout = Layout {
    tower: "model.vision_tower",
    projector: "model.multi_modal_projector",
    stacks: "model.language_model.",
    head: "lm_head.weight",
    logits_bias: "final_logits_bias",
    stem: "conv",
    depthwise: ["conv1", "conv2"],
    attention: [
        Attention { norm: "norm1", qkv: "window_attn.qkv", proj: "window_attn.proj" },
        Attention { norm: "norm1", qkv: "channel_attn.qkv", proj: "channel_attn.proj" },
    ],
    ffn_norm: "norm2",
    ffn: ["ffn.fc1", "ffn.fc2"],
    projection: Projection::Linear("image_projection"),
    positions: "image_position_embed",
    widths: "embed_dim",
    tables: [
        Key { object: None, name: "max_position_embeddings" },
        Key { object: None, name: "max_temporal_embeddings" },
    ],
};

/// modeling_florence2.py of microsoft/Florence-2-base.
pub(super) const MICROSOFT: Layout = Layout {
    tower: "vision_tower",
    projector: "",
    stacks: "language_model.model.",
    head: "language_model.lm_head.weight",
    logits_bias: "language_model.final_logits_bias",
    stem: "proj",
    depthwise: ["conv1.fn.dw", "conv2.fn.dw"],
    attention: [
        Attention { norm: "window_attn.norm", qkv: "window_attn.fn.qkv", proj: "window_attn.fn.proj" },
        Attention { norm: "channel_attn.norm", qkv: "channel_attn.fn.qkv", proj: "channel_attn.fn.proj" },
    ],
    ffn_norm: "ffn.norm",
    ffn: ["ffn.fn.net.fc1", "ffn.fn.net.fc2"],
    projection: Projection::Transposed("image_projection"),
    positions: "image_pos_embed",
    widths: "dim_embed",
    tables: [
        Key { object: Some(("image_pos_embed", "learned_abs_2d")), name: "max_pos_embeddings" },
        Key { object: Some(("visual_temporal_embedding", "COSINE")), name: "max_temporal_embeddings" },
    ],
};
