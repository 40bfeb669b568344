//! What Florence-2 reads of config.json, and the size of its images, which stands elsewhere.

use checkpoint::limits::PIXELS_SIDE;
use checkpoint::{self, Checkpoint, Size};
use frontend::image::ImageProcessor;

use super::davit::{self, Grid, Stage};
use super::layout::{Key, Layout, MICROSOFT, NATIVE};
use crate::error::ImportError;
use crate::import::bart::BART;
use crate::import::fairseq;
use crate::import::layers::{WITHOUT_EFFECT, activation, check_heads};

/// The side of published models' images.
const SIDE: usize = 768;

/// Sizes end here.
const LIMIT: f64 = (1u64 << 31) as f64;

/// Of the whole: those of its text, which count.
const IGNORED: &[&str] = &["auto_map", "ignore_index", "image_token_id", "image_token_index", "vocab_size"];
/// Training.
const OF_TOWER: &[&str] = &["drop_path_rate", "enable_checkpoint", "initializer_range", "model_type"];

/// config.json as Florence2Config reads it.
pub(super) struct Config<'c> {
    pub layout: &'static Layout,
    pub tower: davit::Config,
    pub projector: Projector,
    pub text: fairseq::Config,
    /// What `text` was read from.
    pub of_text: &'c checkpoint::Config,
    /// Whether the head is the embeddings.
    pub is_tied: bool,
}

/// From what is seen to what is read.
pub(super) struct Projector {
    /// Of the tower's last stage.
    pub width: Size,
    /// Of tokens.
    pub out: Size,
    /// Of the tower's last stage.
    pub grid: Grid,
    /// Rows of the two tables of positions, and of that of frames.
    pub positions: Size,
    pub frames: Size,
}

impl<'c> Config<'c> {
    /// Errors: keys that are missing, or that say what this family does not compute.
    pub fn read(checkpoint: &'c Checkpoint) -> Result<Config<'c>, ImportError> {
        let c = checkpoint.config();
        c.only("is_encoder_decoder", true);
        c.ignore(WITHOUT_EFFECT);
        c.ignore(IGNORED);
        let (Some(of_tower), Some(of_text)) = (c.section("vision_config"), c.section("text_config")) else {
            return Err(checkpoint.does_not_fit().into());
        };
        let is_microsofts = of_tower.json().get(MICROSOFT.widths).is_some();
        let layout = if is_microsofts { &MICROSOFT } else { &NATIVE };
        // Elsewhere embeddings of images and of text would be scaled unlike.
        of_text.only("scale_embedding", false);
        of_text.only("tie_word_embeddings", true);
        let text = fairseq::Config::of(of_text, checkpoint, &BART);
        let size = ImageProcessor::shape_of(checkpoint.files())?;
        let tower = read_tower(of_tower, checkpoint, layout, size.unwrap_or([3, SIDE, SIDE]));
        checkpoint.config_fits()?;
        let projector = read_projector(of_tower, layout, &tower);
        c.only("projection_dim", projector.out.len);
        if projector.out.len != text.d_model.len {
            let why = format!("expected text_config.d_model = {}, whose tokens stand beside", text.d_model.len);
            of_tower.unsupported("projection_dim", why);
        }
        let is_tied = c.bool_or("tie_word_embeddings", true);
        Ok(Config { layout, tower, projector, text, of_text, is_tied })
    }
}

/// `image`: channels, height and width.
fn read_tower(c: &checkpoint::Config, checkpoint: &Checkpoint, layout: &Layout, image: [usize; 3]) -> davit::Config {
    c.ignore(OF_TOWER);
    c.only("in_channels", image[0]);
    let widths = c.counts_or(layout.widths, &[128, 256, 512, 1024]);
    let count = widths.len();
    let fitting = |key: &str, found: Vec<usize>| {
        if found.len() != count {
            c.unsupported(key, format!("expected {count} numbers, as {} has", layout.widths));
        }
        found.into_iter().chain(std::iter::repeat(1)).take(count).collect::<Vec<usize>>()
    };
    let counts = |key: &str, default: &[usize]| fitting(key, c.counts_or(key, default));
    let depths = counts("depths", &[1, 1, 9, 1]);
    let heads = counts("num_heads", &[4, 8, 16, 32]);
    let groups = counts("num_groups", &[4, 8, 16, 32]);
    let kernels = counts("patch_size", &[7, 3, 3, 3]);
    let strides = counts("patch_stride", &[4, 2, 2, 2]);
    let pads = fitting("patch_padding", c.numbers_or("patch_padding", &[3, 1, 1, 1]));
    let norms = c.bools_or("patch_prenorm", &[false, true, true, true]);
    fitting("patch_prenorm", vec![1; norms.len()]);
    let window = c.usize_or("window_size", 12);
    if window as u64 > PIXELS_SIDE {
        c.unsupported("window_size", format!("expected at most {PIXELS_SIDE}"));
    }
    // In all bits, since products are cut to whole numbers.
    let ratio = c.f64_or("mlp_ratio", 4.0);
    let mut grid = [image[1], image[2]];
    let stages = (0..count).map(|i| {
        let size = |len: usize, name: &'static str| Size { len, name };
        let width = size(widths[i], layout.widths);
        let [heads, groups] = [size(heads[i], "num_heads"), size(groups[i], "num_groups")];
        check_heads(c, heads, width);
        check_heads(c, groups, width);
        let places = grid.map(|n| (n + 2 * pads[i]).checked_sub(kernels[i]).map_or(0, |last| last / strides[i] + 1));
        if places.iter().zip(grid).any(|(places, before)| !(1..=before).contains(places)) {
            let why =
                format!("stage {i} makes {places:?} places (height, width) of {grid:?}: expected some, and no more");
            c.unsupported("patch_size", why);
        } else {
            grid = places;
        }
        let ffn = widths[i] as f64 * ratio;
        if !(1.0..LIMIT).contains(&ffn) {
            c.unsupported("mlp_ratio", format!("{} · {ratio} is no number of columns", widths[i]));
        }
        Stage {
            width,
            ffn: size(ffn as usize, "mlp_ratio"),
            depth: checkpoint.layers_in(c, depths[i], "depths"),
            heads,
            groups,
            kernel: size(kernels[i], "patch_size"),
            stride: strides[i],
            pad: pads[i],
            norm_before: norms.get(i).copied().unwrap_or_default(),
            grid: Grid(grid),
        }
    });
    let stages: Vec<Stage> = stages.collect();
    davit::Config {
        image,
        stages,
        window,
        qkv_bias: c.bool_or("qkv_bias", true),
        activation: activation(c, "activation_function", "gelu"),
    }
}

fn read_projector(c: &checkpoint::Config, layout: &Layout, tower: &davit::Config) -> Projector {
    let last = tower.stages.last().expect("a list of stages has one");
    let [positions, frames] = [(0, 50), (1, 100)].map(|(i, default)| table(c, &layout.tables[i], default));
    let of_features = serde_json::json!(["spatial_avg_pool", "temporal_avg_pool"]);
    c.only("image_feature_source", of_features);
    if last.grid.0.iter().any(|n| *n > positions.len) {
        let Grid([rows, columns]) = last.grid;
        c.unsupported("patch_stride", format!("{rows} x {columns} places are more than {} positions", positions.len));
    }
    if !last.width.len.is_multiple_of(2) {
        c.unsupported(
            layout.widths,
            "positions of a frame are pairs of a sine and a cosine: expected an even last width",
        );
    }
    let out = Size { len: c.usize_or("projection_dim", 1024), name: "projection_dim" };
    Projector { width: last.width, out, grid: last.grid, positions, frames }
}

/// Rows of a table, as its key says.
fn table(c: &checkpoint::Config, key: &Key, default: usize) -> Size {
    let Some((object, kind)) = key.object else { return Size { len: c.usize_or(key.name, default), name: key.name } };
    let Some(c) = c.section_if_given(object) else { return Size { len: default, name: key.name } };
    c.only("type", kind);
    Size { len: c.usize_or(key.name, default), name: key.name }
}
