//! DonutSwin, the encoder of Donut and Nougat: modeling_donut_swin.py of transformers 5.23. Swin (Liu et al., arXiv 2103.14030)
//! without a norm at its end.

use checkpoint::limits::{GRID_PLACES, WINDOW_SIDE};
use checkpoint::{self, Checkpoint, Size};
use graph::{BATCH, Build, Unary, Val};

use crate::import::layers::{activation, head_scale};
use crate::import::module::Module;
use crate::import::windows::{self, crop, merge, merge_heads, pad, padded, partition};

/// In config.json's `encoder`.
pub(super) const MODEL_TYPE: &str = "donut-swin";

/// Training; what the embeddings had a norm for in the first Swin; the keys of a config inside that another class has.
const IGNORED: &[&str] =
    &["attention_probs_dropout_prob", "drop_path_rate", "encoder_stride", "hidden_dropout_prob", "path_norm"];

/// Keys that follow from the others: the width of the last stage, and how many there are.
const FOLLOWING: &[&str] = &["hidden_size", "num_layers"];

/// Of the norms that are no block's; no key changes it.
const EPS: f32 = 1e-5;

/// Added to scores between regions that only a shift has brought together. Not -inf: as `DonutSwinLayer.get_attn_mask` has it.
const APART: f32 = -100.0;

/// config.json's `encoder` as DonutSwinConfig reads it.
pub(super) struct Config {
    /// Height and width.
    pub image: [usize; 2],
    pub channels: Size,
    /// Of the last stage.
    pub width: Size,
    patch: [usize; 2],
    stages: Vec<Stage>,
    window: Size,
    activation: Unary,
    eps: f32,
    qkv_bias: bool,
}

/// Blocks on one grid.
struct Stage {
    /// Rows and columns.
    grid: [usize; 2],
    depth: usize,
    heads: Size,
    width: Size,
    ffn: Size,
}

impl Config {
    /// `None`: sizes that make no grid of windows, which is noted.
    pub fn read(c: &checkpoint::Config, checkpoint: &Checkpoint) -> Option<Config> {
        c.ignore(IGNORED);
        c.ignore(FOLLOWING);
        let channels = Size { len: c.usize_or("num_channels", 3), name: "num_channels" };
        let (activation, eps) = (activation(c, "hidden_act", "gelu"), c.f32_or("layer_norm_eps", 1e-5));
        let qkv_bias = c.bool_or("qkv_bias", true);
        // Added to as many patches and one more, which fails in transformers.
        c.only("use_absolute_embeddings", false);
        let (image, patch) = (c.lengths_or("image_size", 224), c.lengths_or("patch_size", 4));
        let window = Size { len: c.usize_or("window_size", 7), name: "window_size" };
        let stages = stages(c, checkpoint, [0, 1].map(|axis| image[axis] / patch[axis]));
        let fits = |key, fits: bool, why: String| {
            if !fits {
                c.unsupported(key, why);
            }
            fits
        };
        let whole = image.iter().zip(patch).all(|(image, patch)| image.is_multiple_of(patch));
        let covers = |stage: &&Stage| stage.grid.iter().any(|length| *length < window.len);
        let covered = stages.as_ref().and_then(|stages| stages.iter().find(covers)).map_or([0; 2], |stage| stage.grid);
        let all_fit = [
            fits("patch_size", whole, format!("image_size = {image:?} is no multiple of it")),
            fits("window_size", (2..=WINDOW_SIDE).contains(&window.len), format!("expected 2 to {WINDOW_SIDE}")),
            fits("window_size", covered == [0; 2], format!("a stage has a grid of {covered:?}, less than a window")),
        ];
        let stages = stages.filter(|_| all_fit == [true; 3])?;
        let width = Size { name: "hidden_size", ..stages.last()?.width };
        for (key, value) in FOLLOWING.iter().zip([width.len, stages.len()]) {
            c.only(key, value);
        }
        Some(Config { image, channels, width, patch, stages, window, activation, eps, qkv_bias })
    }

    /// `[b, channels, height, width] -> [b, places of the last grid, hidden_size]`
    pub fn write<'b>(&self, b: &'b Build, w: &Module<'b>, pixels: Val<'b>) -> Val<'b> {
        let mut x = self.embed(b, &w.at("embeddings"), pixels);
        let mut number = 0;
        for (s, stage) in self.stages.iter().enumerate() {
            let w_stage = w.at(format!("encoder.layers.{s}"));
            let mask = stage.is_shifted(self.window.len).then(|| {
                let _stack = b.scope(format!("encoder.stage.{s}"));
                regions(b, padded(stage.grid, self.window.len), self.window.len)
            });
            for i in 0..stage.depth {
                let _layer = b.scope(format!("encoder.{number}"));
                x = self.block(b, &w_stage.at(format!("blocks.{i}")), stage, mask.filter(|_| i % 2 == 1), x);
                number += 1;
            }
            if let Some(next) = self.stages.get(s + 1) {
                let _stack = b.scope(format!("encoder.stage.{s}"));
                x = halve(b, &w_stage.at("downsample"), stage, next, x);
            }
        }
        x
    }

    /// Patches row by row, normed.
    fn embed<'b>(&self, b: &'b Build, w: &Module<'b>, pixels: Val<'b>) -> Val<'b> {
        let _stack = b.scope("encoder");
        let Some(Stage { grid: [rows, columns], width, .. }) = self.stages.first() else { return pixels };
        let side = |axis: usize| Size { len: self.patch[axis], name: "patch_size" };
        let projection = "patch_embeddings.projection";
        let kernel = w.get(projection, [*width, self.channels, side(0), side(1)]);
        let patches = pixels.conv2d(kernel, self.patch, [0, 0], 1);
        let patches = patches.reshape([BATCH.into(), width.len.into(), (rows * columns).into()]).t();
        w.layer_norm(patches + w.bias(projection, *width), "norm", *width, EPS)
    }

    /// `mask`: of the regions that a shift brings together, where this block shifts.
    fn block<'b>(&self, b: &'b Build, w: &Module<'b>, stage: &Stage, mask: Option<Val<'b>>, mut x: Val<'b>) -> Val<'b> {
        let width = stage.width;
        {
            let _attn = b.scope("attn");
            let y = w.layer_norm(x, "layernorm_before", width, self.eps);
            x = x + self.within_windows(b, &w.at("attention"), stage, mask, y);
        }
        let _ffn = b.scope("ffn");
        let y = w.layer_norm(x, "layernorm_after", width, self.eps);
        let hidden = w.linear(y, "intermediate.dense", [stage.ffn, width]).activation(self.activation);
        x + w.linear(hidden, "output.dense", [width, stage.ffn])
    }

    /// Attention of each window to itself. `[b, places, c] -> [b, places, c]`
    fn within_windows<'b>(
        &self,
        b: &'b Build,
        w: &Module<'b>,
        stage: &Stage,
        mask: Option<Val<'b>>,
        x: Val<'b>,
    ) -> Val<'b> {
        let (side, width, heads, grid) = (self.window.len, stage.width, stage.heads.len, stage.grid);
        let whole = padded(grid, side);
        let (count, places) = (whole[0] * whole[1] / (side * side), side * side);
        let shift = if mask.is_some() { side / 2 } else { 0 };

        let x = pad(b, x.reshape([BATCH.into(), grid[0].into(), grid[1].into(), width.len.into()]), whole);
        let x = partition(roll(b, x, [shift; 2]), side);
        let x = x.reshape([BATCH.into(), (count * places).into(), width.len.into()]);
        let shape = [width, width];
        let [q, k, v] = ["query", "key", "value"].map(|name| {
            let w = w.at("self");
            let bias = self.qkv_bias.then(|| w.bias(name, width));
            let y = x.linear(w.get(name, shape), bias);
            windows::heads(y.reshape([BATCH.into(), count.into(), places.into(), width.len.into()]), heads)
        });
        let scores = q.matmul(k.t()) * head_scale(width, stage.heads) as f32;
        // Windows and heads have axes of their own while biases of heads and masks of windows are added.
        let pairs = places * places;
        let scores = scores.reshape([BATCH.into(), count.into(), heads.into(), pairs.into()]);
        let scores = scores + self.relative_bias(b, &w.at("self"), stage);
        let scores = mask.map_or(scores, |mask| scores + mask);
        let scores = scores.reshape([BATCH.into(), (count * heads).into(), places.into(), places.into()]);
        let mixed = merge_heads(scores.softmax().matmul(v), heads);
        let mixed = mixed.reshape([BATCH.into(), (count * places).into(), width.len.into()]);
        let y = w.linear(mixed, "output.dense", shape);

        let y = merge(y.reshape([BATCH.into(), count.into(), places.into(), width.len.into()]), whole, side);
        let y = crop(roll(b, y, whole.map(|length| if shift == 0 { 0 } else { length - shift })), grid);
        y.reshape([BATCH.into(), (grid[0] * grid[1]).into(), width.len.into()])
    }

    /// `[heads, side⁴]`: a bias for each pair of places of a window, the row of the table for how far they are apart along both
    /// axes.
    fn relative_bias<'b>(&self, b: &'b Build, w: &Module<'b>, stage: &Stage) -> Val<'b> {
        let (side, heads) = (self.window.len, stage.heads.len);
        let distances = 2 * side - 1;
        let rows = Size { len: distances * distances, name: "(2·window_size - 1)²" };
        let places = Size { len: side * side, name: "window_size²" };
        w.integers("relative_position_index", [places, places], |at| relative_index(at, side));
        let table = w.tensor("relative_position_bias_table", [rows, stage.heads]);
        let of_rows = by_distance(b, table.reshape([distances.into(), (distances * heads).into()]), side);
        let columns = of_rows.reshape([places.len.into(), distances.into(), heads.into()]).transpose(vec![1, 0, 2]);
        let of_both = by_distance(b, columns.reshape([distances.into(), (places.len * heads).into()]), side);
        // Column and row of the key come first, with those of the query between and behind them.
        let apart = of_both.reshape([side, side, side, side, heads].map(Into::into));
        apart.transpose(vec![4, 3, 1, 2, 0]).reshape([heads.into(), (places.len * places.len).into()])
    }
}

impl Stage {
    /// Whether its odd blocks shift: a grid that one window covers along an axis has nothing to shift.
    fn is_shifted(&self, side: usize) -> bool {
        self.depth > 1 && self.grid.iter().all(|length| *length > side)
    }
}

/// The stages that a config speaks of, each on a grid of half as many rows and columns as the one before, rounded up. `None`: sizes
/// that do not fit, which is noted.
fn stages(c: &checkpoint::Config, checkpoint: &Checkpoint, mut grid: [usize; 2]) -> Option<Vec<Stage>> {
    let (depths, heads) = (checkpoint.depths_of(c, "depths"), c.counts("num_heads"));
    let (first, mlp_ratio) = (c.usize("embed_dim"), c.f64_or("mlp_ratio", 4.0));
    if heads.len() != depths.len() {
        c.unsupported("num_heads", format!("expected a number for each of the {} stages of depths", depths.len()));
        return None;
    }
    if grid[0] * grid[1] > GRID_PLACES {
        c.unsupported("image_size", format!("expected at most {GRID_PLACES} patches, found {grid:?}"));
        return None;
    }
    let mut stages = Vec::new();
    for (s, (depth, heads)) in depths.into_iter().zip(heads).enumerate() {
        let width = first.checked_mul(1 << s.min(32)).filter(|width| *width <= Size::MOST);
        let Some(width) = width else {
            c.unsupported("embed_dim", format!("it doubles with each stage, and then passes {}", Size::MOST));
            return None;
        };
        if !width.is_multiple_of(heads) {
            c.unsupported("num_heads", format!("{heads} heads do not divide the width {width} of their stage"));
            return None;
        }
        let ffn = mlp_ratio * width as f64;
        if !(1.0..=Size::MOST as f64).contains(&ffn) {
            c.unsupported("mlp_ratio", format!("expected 1 to {} neurons for a width of {width}", Size::MOST));
            return None;
        }
        stages.push(Stage {
            grid,
            depth,
            heads: Size { len: heads, name: "num_heads" },
            width: Size { len: width, name: "embed_dim · 2^stage" },
            ffn: Size { len: ffn as usize, name: "mlp_ratio · embed_dim · 2^stage" },
        });
        grid = grid.map(|length| length.div_ceil(2));
    }
    Some(stages)
}

/// Four neighbours in one place, below each other first, and half as wide: `[b, places, c] -> [b, places / 4, 2 c]`.
fn halve<'b>(b: &'b Build, w: &Module<'b>, stage: &Stage, next: &Stage, x: Val<'b>) -> Val<'b> {
    let Stage { grid: [rows, columns], width, .. } = *stage;
    let x = x.reshape([BATCH.into(), rows.into(), columns.into(), width.len.into()]);
    let x = pad(b, x, padded(stage.grid, 2));
    let [below, across] = next.grid;
    let every_second = |row, column| x.slice(1, row, 2, below).slice(2, column, 2, across);
    let four = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(row, column)| every_second(row, column));
    let all = Size { len: 4 * width.len, name: "4 · embed_dim · 2^stage" };
    let x = b.concat(&four, 3).reshape([BATCH.into(), (below * across).into(), all.len.into()]);
    w.linear_no_bias(w.layer_norm(x, "norm", all, EPS), "reduction", [next.width, all])
}

/// `[b, rows, columns, c]` with the places before `first` moved behind the others, along both axes.
fn roll<'b>(b: &'b Build, mut x: Val<'b>, first: [usize; 2]) -> Val<'b> {
    for (axis, first) in [(1, first[0]), (2, first[1])] {
        let length = x.ty().and_then(|ty| ty.shape[axis].literal());
        let Some(length) = length.filter(|_| first > 0) else { continue };
        x = b.concat(&[x.slice(axis, first, 1, length - first), x.slice(axis, 0, 1, first)], axis);
    }
    x
}

/// `[1, windows, 1, side⁴]`: [`APART`] for two places of a window that only the shift of half a window brought together.
///
/// transformers numbers nine regions; of these a window holds four at most, which differ in whether rows and columns came round.
fn regions(b: &Build, [rows, columns]: [usize; 2], side: usize) -> Val<'_> {
    let shift = side / 2;
    let part =
        |number: f32, rows: usize, columns: usize| b.scalar(number).broadcast([1, rows, columns, 1].map(Into::into));
    let below = b.concat(&[part(0.0, rows - shift, columns), part(1.0, shift, columns)], 1);
    let right = b.concat(&[part(0.0, rows, columns - shift), part(2.0, rows, shift)], 2);
    let region = partition(below + right, side);
    let apart = region - region.t();
    let square = apart * apart;
    // 0 where it is 0, else 1: squares are 0, 1, 4 or 9.
    let differs = square - (square + -1.0).relu();
    let count = rows * columns / (side * side);
    (differs * APART).reshape([1, count, 1, side.pow(4)].map(Into::into))
}

/// `[2·side - 1, r] -> [side, side, r]`: at `[j, i]` row `i - j + side - 1`, without a copy of the table in the checkpoint that
/// would have another shape.
///
/// Copies of the rows, those from distance 0 on first, stand behind each other; cut into pieces one row shorter than a copy, each
/// piece begins a distance earlier than the one before.
fn by_distance<'b>(b: &'b Build, table: Val<'b>, side: usize) -> Val<'b> {
    let Some(row) = table.ty().and_then(|ty| ty.shape[1].literal()) else { return table };
    let rows = 2 * side - 1;
    let turned = b.concat(&[table.slice(0, side - 1, 1, side), table.slice(0, 0, 1, side - 1)], 0);
    let copies = turned.broadcast([side, rows, row].map(Into::into)).reshape([(side * rows).into(), row.into()]);
    let pieces = copies.slice(0, 0, 1, side * (rows - 1)).reshape([side, rows - 1, row].map(Into::into));
    pieces.slice(1, 0, 1, side)
}

/// `relative_position_index`, a buffer that files hold: the row of the table for the element at `at` of `[side², side²]`.
fn relative_index(at: usize, side: usize) -> i64 {
    let (query, key) = (at / (side * side), at % (side * side));
    let apart = |query: usize, key: usize| query + side - 1 - key;
    (apart(query / side, key / side) * (2 * side - 1) + apart(query % side, key % side)) as i64
}
