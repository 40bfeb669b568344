//! DaViT (Ding et al., arXiv 2204.03645), as modeling_florence2.py of transformers 5.23 has it: in stages, each with attention
//! over windows of an image and over its channels in turn.

use checkpoint::Size;
use graph::{BATCH, Build, Dim, Unary, Val};

use super::layout::{Attention, Layout};
use crate::import::layers::{head_scale, mixed};
use crate::import::module::Module;
use crate::import::windows;

/// The default of `nn.LayerNorm`; no key changes it.
pub(super) const EPS: f32 = 1e-5;

const ONE: Size = Size { len: 1, name: "1" };
const DEPTHWISE: Size = Size { len: 3, name: "kernel" };

/// `vision_config`.
pub(super) struct Config {
    /// Channels, height and width.
    pub image: [usize; 3],
    pub stages: Vec<Stage>,
    /// The side of a window.
    pub window: usize,
    pub qkv_bias: bool,
    pub activation: Unary,
}

/// A convolution and the blocks after it.
pub(super) struct Stage {
    pub width: Size,
    pub ffn: Size,
    pub depth: usize,
    /// Of windows, and of channels.
    pub heads: Size,
    pub groups: Size,
    pub kernel: Size,
    pub stride: usize,
    pub pad: usize,
    /// Whether what comes in is normed, and not what the convolution makes.
    pub norm_before: bool,
    /// Of what it makes.
    pub grid: Grid,
}

/// Rows and columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Grid(pub [usize; 2]);

impl Grid {
    pub fn places(self) -> usize {
        self.0.iter().product()
    }

    /// `[b, width, rows, columns] -> [b, places, width]`
    fn tokens<'b>(self, image: Val<'b>, width: Size) -> Val<'b> {
        image.reshape([Dim::from(BATCH), width.len.into(), self.places().into()]).t()
    }

    /// The other way round.
    fn image<'b>(self, tokens: Val<'b>, width: Size) -> Val<'b> {
        let [rows, columns] = self.0.map(Dim::from);
        tokens.t().reshape([BATCH.into(), width.len.into(), rows, columns])
    }
}

impl Config {
    /// `[b, channels, height, width] -> [b, places, width]` of the last stage.
    pub fn write<'b>(&self, b: &'b Build, w: &Module<'b>, layout: &'static Layout, pixels: Val<'b>) -> Val<'b> {
        let channels = Size { len: self.image[0], name: "in_channels" };
        let mut before = (channels, Grid([self.image[1], self.image[2]]));
        let mut x = pixels;
        for (i, stage) in self.stages.iter().enumerate() {
            {
                let _stage = b.scope(format!("image.{i}"));
                x = stage.stem(&w.at(format!("convs.{i}")), layout, x, before);
            }
            for j in 0..stage.depth {
                let block = w.at(format!("blocks.{i}.{j}"));
                for (half, name) in ["spatial_block", "channel_block"].into_iter().enumerate() {
                    let _block = b.scope(format!("image.{i}.{j}.{name}"));
                    x = Block { b, c: self, stage, layout, w: block.at(name), is_spatial: half == 0 }.write(x);
                }
            }
            before = (stage.width, stage.grid);
        }
        before.1.tokens(x, before.0)
    }
}

impl Stage {
    /// A convolution to the stage's grid, with a norm over channels before it or after. `before`: what comes in.
    fn stem<'b>(&self, w: &Module<'b>, layout: &Layout, x: Val<'b>, before: (Size, Grid)) -> Val<'b> {
        let normed =
            |x, (width, grid): (Size, Grid)| grid.image(w.layer_norm(grid.tokens(x, width), "norm", width, EPS), width);
        let x = if self.norm_before { normed(x, before) } else { x };
        let kernel = w.get(layout.stem, [self.width, before.0, self.kernel, self.kernel]);
        let x = x.conv2d(kernel, [self.stride; 2], [self.pad; 2], 1);
        let x = x + per_channel(w.bias(layout.stem, self.width), self.width);
        if self.norm_before { x } else { normed(x, (self.width, self.grid)) }
    }
}

/// A number for each channel of an image.
fn per_channel<'b>(bias: Val<'b>, width: Size) -> Val<'b> {
    bias.reshape([width.len.into(), 1.into(), 1.into()])
}

struct Block<'b, 'c> {
    b: &'b Build,
    c: &'c Config,
    stage: &'c Stage,
    layout: &'static Layout,
    w: Module<'b>,
    /// Whether it attends to places and not to channels.
    is_spatial: bool,
}

impl<'b> Block<'b, '_> {
    /// `[b, width, rows, columns]` to the same.
    fn write(&self, x: Val<'b>) -> Val<'b> {
        let Stage { width, ffn, grid, .. } = *self.stage;
        let [first, second] = self.layout.depthwise;
        let x = {
            let _attn = self.b.scope("attn");
            let x = grid.tokens(self.depthwise(x, first), width);
            let y = self.w.layer_norm(x, self.names().norm, width, EPS);
            let y = if self.is_spatial { self.over_windows(y) } else { self.over_channels(y) };
            grid.image(x + y, width)
        };
        let _ffn = self.b.scope("ffn");
        let x = grid.tokens(self.depthwise(x, second), width);
        let y = self.w.layer_norm(x, self.layout.ffn_norm, width, EPS);
        let [fc1, fc2] = self.layout.ffn;
        let hidden = self.w.linear(y, fc1, [ffn, width]).activation(self.c.activation);
        grid.image(x + self.w.linear(hidden, fc2, [width, ffn]), width)
    }

    fn names(&self) -> &'static Attention {
        &self.layout.attention[usize::from(!self.is_spatial)]
    }

    /// `x` and what each of its channels is around each place.
    fn depthwise(&self, x: Val<'b>, name: &str) -> Val<'b> {
        let width = self.stage.width;
        let kernel = self.w.get(name, [width, ONE, DEPTHWISE, DEPTHWISE]);
        let y = x.conv2d(kernel, [1, 1], [1, 1], width.len);
        y + per_channel(self.w.bias(name, width), width) + x
    }

    /// Queries, keys and values of `[b, n, width]`, which one matrix makes.
    fn qkv(&self, x: Val<'b>) -> [Val<'b>; 3] {
        let width = self.stage.width;
        let all = Size { len: 3 * width.len, name: "3 · width" };
        let name = self.names().qkv;
        let bias = self.c.qkv_bias.then(|| self.w.bias(name, all));
        let all = x.linear(self.w.get(name, [all, width]), bias);
        [0, 1, 2].map(|i| all.slice(2, i * width.len, 1, width.len))
    }

    /// What attention mixed, `[b, n, width]`, through its last matrix.
    fn projected(&self, x: Val<'b>) -> Val<'b> {
        self.w.linear(x, self.names().proj, [self.stage.width; 2])
    }

    /// Of each window for itself, where what lies beyond the image is zeros that are seen.
    fn over_windows(&self, x: Val<'b>) -> Val<'b> {
        let Stage { width, heads, grid, .. } = *self.stage;
        let (side, whole) = (self.c.window, windows::padded(grid.0, self.c.window));
        let [rows, columns] = grid.0.map(Dim::from);
        let x = windows::pad(self.b, x.reshape([BATCH.into(), rows, columns, width.len.into()]), whole);
        let places = whole.iter().product::<usize>();
        let x = windows::partition(x, side).reshape([BATCH.into(), places.into(), width.len.into()]);
        let of_windows = [places / (side * side), side * side, width.len].map(Dim::from);
        let split = |x: Val<'b>| x.reshape([&[BATCH.into()], &of_windows[..]].concat());
        let of_heads = self.qkv(x).map(|x| windows::heads(split(x), heads.len));
        let x = windows::merge_heads(mixed(of_heads, head_scale(width, heads), None), heads.len);
        // Before windows are put together, which is the same place by place: of two moves of axes in a row, the HTP's compiler makes one
        // that it has no room for.
        let x = split(self.projected(x.reshape([BATCH.into(), places.into(), width.len.into()])));
        let x = windows::crop(windows::merge(x, whole, side), grid.0);
        x.reshape([BATCH.into(), grid.places().into(), width.len.into()])
    }

    /// Of the channels of each group: places are what they are compared by.
    fn over_channels(&self, x: Val<'b>) -> Val<'b> {
        let Stage { width, groups, grid, .. } = *self.stage;
        let places = grid.places();
        let of_group = width.len.checked_div(groups.len).unwrap_or_default();
        let split = [BATCH.into(), places.into(), groups.len.into(), of_group.into()];
        let channels = self.qkv(x).map(|x| x.reshape(split.clone()).transpose(vec![0, 2, 3, 1]));
        let mixed = mixed(channels, (places as f64).powf(-0.5), None);
        self.projected(mixed.transpose(vec![0, 3, 1, 2]).reshape([BATCH.into(), places.into(), width.len.into()]))
    }
}
