//! What T5Gemma and T5Gemma2 share: modeling_t5gemma.py and modeling_t5gemma2.py of transformers 5.23.

use checkpoint::gguf;
use checkpoint::{Checkpoint, Config, Size};
use graph::{Build, DEC, ENC, Layout, Rope, Unary, Val, Visible};
use serde_json::Value;

use super::layers::{WITHOUT_EFFECT, activation};
use super::module::Module;

/// Keys of a stack's section without effect on the logits, beside [`WITHOUT_EFFECT`]. What a section says of the whole model
/// is set by the whole.
const OF_SECTION: &[&str] = &[
    "_attn_implementation_autoset",
    "_sliding_window_pattern",
    "attention_dropout",
    "cross_attention_hidden_size",
    "is_decoder",
    "is_encoder_decoder",
    "max_position_embeddings",
    "tie_word_embeddings",
];

/// Of T5GemmaModuleConfig and T5Gemma2DecoderConfig.
pub(super) const DECODING_DEFAULTS: &[(&str, u32)] = &[("pad_token_id", 0), ("eos_token_id", 1), ("bos_token_id", 2)];

const LAYER_TYPES: [&str; 2] = ["full_attention", "sliding_attention"];

/// Which keys the queries of a layer see, padding and order aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Attends {
    /// All.
    Full,
    /// Those in the window.
    Sliding,
}

/// The section of config.json of an encoder or decoder.
pub(super) struct Stack {
    pub width: Size,
    pub ffn: Size,
    pub vocab: Size,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: Size,
    pub q: Size,
    pub kv: Size,
    pub layers: Vec<Attends>,
    pub window: usize,
    /// Multiplies the scores: `query_pre_attn_scalar^-0.5`.
    pub scale: f32,
    pub eps: f32,
    pub bias: bool,
    pub activation: Unary,
}

impl Stack {
    /// `pattern`: where `layer_types` is missing, each `pattern`-th layer is full and the others slide.
    pub(super) fn read(c: &Config, checkpoint: &Checkpoint, pattern: usize) -> Stack {
        let (heads, kv_heads) = (c.usize("num_attention_heads"), c.usize("num_key_value_heads"));
        if !heads.is_multiple_of(kv_heads) {
            c.unsupported("num_key_value_heads", format!("expected a divisor of num_attention_heads = {heads}"));
        }
        let head_dim = c.size("head_dim");
        let count = checkpoint.layers_of(c, "num_hidden_layers");
        c.only("use_bidirectional_attention", false);
        c.ignore(WITHOUT_EFFECT);
        c.ignore(OF_SECTION);
        Stack {
            width: c.size("hidden_size"),
            ffn: c.size("intermediate_size"),
            vocab: c.size("vocab_size"),
            heads,
            kv_heads,
            head_dim,
            q: Size { len: heads * head_dim.len, name: "num_attention_heads·head_dim" },
            kv: Size { len: kv_heads * head_dim.len, name: "num_key_value_heads·head_dim" },
            layers: layers(c, count, pattern),
            window: c.usize_or("sliding_window", 4096),
            // Rounded once from f64, as the Python float is.
            scale: (c.usize_or("query_pre_attn_scalar", 256) as f64).powf(-0.5) as f32,
            eps: c.f32_or("rms_norm_eps", 1e-6),
            bias: c.bool_or("attention_bias", false),
            activation: activation(c, "hidden_activation", "gelu_pytorch_tanh"),
        }
    }

    /// A stored norm weight is the factor less 1.
    pub(super) fn norm<'b>(&self, x: Val<'b>, w: &Module<'b>, name: &str) -> Val<'b> {
        x.rms_norm(w.get(name, [self.width]) + 1.0, self.eps)
    }

    /// `x + post_norm(sublayer(pre_norm(x)))`, the norms being `pre_{name}_layernorm` and `post_{name}_layernorm`.
    pub(super) fn sandwiched<'b>(
        &self,
        x: Val<'b>,
        w: &Module<'b>,
        name: &str,
        sublayer: impl FnOnce(Val<'b>) -> Val<'b>,
    ) -> Val<'b> {
        let y = sublayer(self.norm(x, w, &format!("pre_{name}_layernorm")));
        x + self.norm(y, w, &format!("post_{name}_layernorm"))
    }

    /// One of the four projections of an attention.
    pub(super) fn project<'b>(&self, x: Val<'b>, w: &Module<'b>, name: &str, shape: [Size; 2]) -> Val<'b> {
        match self.bias {
            true => w.linear(x, name, shape),
            false => w.linear_no_bias(x, name, shape),
        }
    }

    /// Queries of `x`: `[b, num_attention_heads, n, head_dim]`.
    pub(super) fn queries<'b>(&self, x: Val<'b>, w: &Module<'b>) -> Val<'b> {
        self.project(x, w, "q_proj", [self.q, self.width]).heads(self.heads)
    }

    /// Keys or values of `x`, `width` wide: `[b, num_key_value_heads, n, head_dim]`.
    pub(super) fn shared_heads<'b>(&self, x: Val<'b>, w: &Module<'b>, name: &str, width: Size) -> Val<'b> {
        self.project(x, w, name, [self.kv, width]).heads(self.kv_heads)
    }

    /// `down(activation(gate(x)) · up(x))`.
    fn feed_forward<'b>(&self, x: Val<'b>, w: &Module<'b>) -> Val<'b> {
        let up = |name| w.linear_no_bias(x, name, [self.ffn, self.width]);
        let hidden = up("gate_proj").activation(self.activation) * up("up_proj");
        w.linear_no_bias(hidden, "down_proj", [self.width, self.ffn])
    }

    /// The layers of the stack called `name`, and its last norm.
    ///
    /// `attend(x, layer, i)`: what layer `i` does before its feed-forward.
    pub(super) fn write<'b>(
        &self,
        b: &'b Build,
        w: &Module<'b>,
        name: &str,
        mut x: Val<'b>,
        attend: impl Fn(Val<'b>, &Module<'b>, usize) -> Val<'b>,
    ) -> Val<'b> {
        for i in 0..self.layers.len() {
            let _layer = b.scope(format!("{name}.{i}"));
            let layer = w.at(format!("layers.{i}"));
            x = attend(x, &layer, i);
            let _ffn = b.scope("ffn");
            x = self.sandwiched(x, &layer, "feedforward", |x| self.feed_forward(x, &layer.at("mlp")));
        }
        let _stack = b.scope(name);
        self.norm(x, w, "norm")
    }

    /// Rows of the table times √width, a factor that the reference rounds to f32.
    pub(super) fn embed<'b>(&self, ids: Val<'b>, table: Val<'b>) -> Val<'b> {
        ids.embed(table) * (self.width.len as f64).sqrt() as f32
    }

    /// The masks of an encoder's layers: padding, and where a layer slides, the window too.
    pub(super) fn encoder_masks<'b>(&self, b: &'b Build, padding: Val<'b>, window: Visible) -> Vec<Val<'b>> {
        self.a_layer(|attends| match attends {
            Attends::Full => padding,
            Attends::Sliding => b.mask(window, 0, ENC, ENC) + padding,
        })
    }

    /// The masks of a decoder's layers, `finish` applied to f32[dec, dec]: a token sees those before it, and where a layer
    /// slides, `sliding_window` of them with itself.
    pub(super) fn decoder_masks<'b>(&self, b: &'b Build, finish: impl Fn(Val<'b>) -> Val<'b>) -> Vec<Val<'b>> {
        self.a_layer(|attends| {
            let before = (attends == Attends::Sliding).then_some(self.window - 1);
            finish(b.mask(Visible { before, ..Visible::CAUSAL }, 0, DEC, DEC))
        })
    }

    /// A value for each layer; layers of one kind share it.
    fn a_layer<T: Copy>(&self, value: impl Fn(Attends) -> T) -> Vec<T> {
        let mut known = [None; 2];
        self.layers.iter().map(|attends| *known[*attends as usize].get_or_insert_with(|| value(*attends))).collect()
    }
}

fn layers(c: &Config, count: usize, pattern: usize) -> Vec<Attends> {
    let sliding = |sliding| if sliding { Attends::Sliding } else { Attends::Full };
    c.ignore(&["layer_types"]); // Read here, without a getter for lists.
    let Some(given) = c.json().get("layer_types").filter(|value| !value.is_null()) else {
        return (1..=count).map(|i| sliding(!i.is_multiple_of(pattern))).collect();
    };
    let word = |value: &Value| LAYER_TYPES.iter().position(|word| value == word).map(|at| sliding(at == 1));
    let words = given.as_array().and_then(|words| words.iter().map(word).collect::<Option<Vec<_>>>());
    match words.filter(|words| words.len() == count) {
        Some(layers) => layers,
        None => {
            let [full, sliding] = LAYER_TYPES;
            c.unsupported("layer_types", format!("expected {count} words, each {full} or {sliding}"));
            vec![Attends::Full; count]
        }
    }
}

/// A soft cap: null is none, and a key that is missing is the default of the reference.
pub(super) fn cap(c: &Config, key: &str, default: Option<f32>) -> Option<f32> {
    let found = c.f32_or(key, default.unwrap_or(1.0));
    if found <= 0.0 {
        c.unsupported(key, "expected a number above 0, or null");
    }
    match c.json().get(key) {
        None => default,
        Some(Value::Null) => None,
        Some(_) => Some(found),
    }
}

/// `tanh(x / cap) · cap`.
pub(super) fn capped(x: Val<'_>, cap: Option<f32>) -> Val<'_> {
    match cap {
        Some(cap) => (x / cap).tanh() * cap,
        None => x,
    }
}

/// Rotary settings: `rope_theta`, and `factor` where positions are stretched.
///
/// `c`: `rope_parameters`, or what has its keys; `theta`: where they name none.
pub(super) fn rope(c: Option<&Config>, theta: f32, head_dim: Size) -> Rope {
    let mut rope = Rope { theta, factor: 1.0, dims: head_dim.len, layout: Layout::Half };
    let Some(c) = c else { return rope };
    rope.theta = c.f32_or("rope_theta", theta);
    // 4.x called it `type`.
    let key = if c.str("rope_type").is_some() { "rope_type" } else { "type" };
    match c.str_or(key, "default") {
        "default" => {}
        "linear" => rope.factor = c.f32_or("factor", 0.0),
        _ => c.unsupported(key, "expected default or linear"),
    }
    for (key, value) in [("rope_theta", rope.theta), ("factor", rope.factor)] {
        if value <= 0.0 {
            c.unsupported(key, "expected a number above 0");
        }
    }
    rope
}

/// GGUF keys of a stack, below `name`, in llama.cpp's words for a model of one stack.
pub(super) fn gguf_metadata(name: &str, c: &Stack) -> Vec<(String, gguf::Value)> {
    let count = |key: &str, n: usize| (format!("{name}.{key}"), gguf::Value::U32(n as u32)); // at most 2^31
    let float = |key: &str, x: f32| (format!("{name}.{key}"), gguf::Value::F32(x));
    let slides = c.layers.iter().map(|attends| *attends == Attends::Sliding).collect();
    vec![
        count("block_count", c.layers.len()),
        count("embedding_length", c.width.len),
        count("feed_forward_length", c.ffn.len),
        count("attention.head_count", c.heads),
        count("attention.head_count_kv", c.kv_heads),
        count("attention.key_length", c.head_dim.len),
        count("attention.value_length", c.head_dim.len),
        float("attention.scale", c.scale),
        float("attention.layer_norm_rms_epsilon", c.eps),
        count("attention.sliding_window", c.window),
        (format!("{name}.attention.sliding_window_pattern"), gguf::Value::Array(gguf::Array::Bool(slides))),
    ]
}

/// GGUF keys of rotary settings, below `name`.
pub(super) fn gguf_rope(name: &str, rope: Rope) -> Vec<(String, gguf::Value)> {
    let mut metadata = vec![(format!("{name}.freq_base"), gguf::Value::F32(rope.theta))];
    if rope.factor != 1.0 {
        metadata.push((format!("{name}.scaling.type"), gguf::Value::string("linear")));
        metadata.push((format!("{name}.scaling.factor"), gguf::Value::F32(rope.factor)));
    }
    metadata
}
