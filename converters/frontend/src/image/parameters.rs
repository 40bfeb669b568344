//! preprocessor_config.json of image processors, every key of which is read, known to be without effect, or an error.

use serde_json::Value;

use checkpoint::limits::{PIXEL_VALUES, PIXELS_SIDE};
use checkpoint::names::PREPROCESSOR_CONFIG;
use checkpoint::{CheckpointError, Files};

use super::resize::Filter;
use super::step::Step;
use crate::keys::Keys;

/// The object of processor_config.json.
const INSIDE: &str = "image_processor";
/// What another value does.
const CHANGES: &str = "it changes the pixels";

/// What an image processor makes of an image.
#[derive(PartialEq, Debug)]
pub(super) struct Parameters {
    /// Bytes to bytes, in order.
    pub steps: Vec<Step>,
    /// [channels, height, width] of what comes out.
    pub shape: [usize; 3],
    /// Whether transparent images are laid on white; else they lose their alpha.
    pub on_white: bool,
    /// What bytes are multiplied with.
    pub scale: f64,
    /// Subtracted then, for each channel.
    pub mean: Vec<f32>,
    /// Divides then, likewise.
    pub std: Vec<f32>,
}

/// A class of transformers with its own defaults.
struct Class {
    /// Its name without `ImageProcessor`.
    name: &'static str,
    height: u64,
    width: u64,
    crop: Option<u64>,
    resample: u64,
    mean: [f32; 3],
    std: [f32; 3],
    /// Whether a size of one number is a square, not a shortest edge.
    is_square: bool,
    on_white: bool,
    /// Whether images keep their aspect and are filled up.
    is_document: bool,
}

/// As in transformers 5.23.
const CLASSES: [Class; 6] = {
    let vit = Class {
        name: "ViT",
        height: 224,
        width: 224,
        crop: None,
        resample: 2,
        mean: [0.5; 3],
        std: [0.5; 3],
        is_square: true,
        on_white: false,
        is_document: false,
    };
    let (imagenet, of_imagenet) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let (clip, of_clip) = ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_55, 0.261_302_6, 0.275_777_1]);
    [
        Class { name: "DeiT", height: 256, width: 256, crop: Some(224), resample: 3, ..vit },
        Class {
            name: "CLIP",
            crop: Some(224),
            resample: 3,
            mean: clip,
            std: of_clip,
            is_square: false,
            on_white: true,
            ..vit
        },
        Class { name: "Siglip", resample: 3, is_square: false, on_white: true, ..vit },
        Class { name: "Donut", height: 2560, width: 1920, is_document: true, ..vit },
        Class { name: "Nougat", height: 896, width: 672, mean: imagenet, std: of_imagenet, is_document: true, ..vit },
        vit,
    ]
};

/// A size that images are brought to.
#[derive(Clone, Copy)]
enum Size {
    Exact([usize; 2]),
    ShortestEdge(usize),
}

impl Parameters {
    /// Those of a checkpoint's files. Errors: they say nothing; all that is not supported or not known.
    pub(super) fn of(files: &Files) -> Result<Parameters, CheckpointError> {
        let expected = format!("{PREPROCESSOR_CONFIG}, which says how images are resized");
        let given = Parameters::given(files)?;
        given.ok_or(CheckpointError::NotACheckpoint { dir: files.dir().to_owned(), expected })
    }

    /// The same; `None` where the files say nothing.
    pub(super) fn given(files: &Files) -> Result<Option<Parameters>, CheckpointError> {
        let Some(mut keys) = Keys::open(files, INSIDE)? else { return Ok(None) };
        let Some(class) = class(&mut keys) else { return Err(keys.finish_alone()) };
        keys.only("data_format", "channels_first", CHANGES);
        keys.ignore(&[
            "processor_class",
            "auto_map",
            "_valid_processor_keys",
            // Of calls, and of engines' own bookkeeping.
            "input_data_format",
            "return_tensors",
            "device",
            "disable_grouping",
            "image_seq_length",
            // Prompts of Florence-2 for transformers.js.
            "tasks_answer_post_processing_type",
            "task_prompts_without_inputs",
            "task_prompts_with_input",
        ]);
        let (steps, size) = steps(&mut keys, class);
        let values = Values::read(&mut keys, class);
        let on_white = keys.bool("do_convert_rgb", class.on_white);
        let shape = [values.mean.len(), size[0], size[1]];
        if on_white && shape[0] == 1 {
            keys.wrong("do_convert_rgb", "false beside an image_mean of one channel", &Value::from(true));
        }
        if shape.iter().map(|len| *len as u64).product::<u64>() > PIXEL_VALUES {
            keys.wrong("size", &format!("one of at most {PIXEL_VALUES} numbers"), &Value::from(&shape[1..]));
        }
        keys.finish("pixels")?;
        Ok(Some(Parameters { steps, shape, on_white, scale: values.scale, mean: values.mean, std: values.std }))
    }
}

/// The class that the files name, in any of its spellings.
fn class(keys: &mut Keys) -> Option<&'static Class> {
    let legacy = keys.take("feature_extractor_type");
    let named = keys.take("image_processor_type").or(legacy);
    let name = named.as_ref().and_then(Value::as_str).unwrap_or_default();
    let short =
        ["ImageProcessorFast", "ImageProcessor", "FeatureExtractor"].iter().find_map(|end| name.strip_suffix(end));
    let found = CLASSES.iter().find(|class| Some(class.name) == short);
    if found.is_none() {
        let known: Vec<String> = CLASSES.iter().map(|class| format!("{}ImageProcessor", class.name)).collect();
        keys.wrong("image_processor_type", &format!("one of {}", known.join(", ")), &named.unwrap_or_default());
    }
    found
}

/// What is done to bytes, and the size that comes out.
fn steps(keys: &mut Keys, class: &Class) -> (Vec<Step>, [usize; 2]) {
    let is_square = keys.bool("default_to_square", class.is_square);
    let own = match (class.is_square, class.height) {
        // CLIP has a shortest edge of its own; Siglip's default is exact.
        (false, edge) if class.crop.is_some() => Size::ShortestEdge(edge as usize),
        _ => Size::Exact([class.height as usize, class.width as usize]),
    };
    let is_reversed = class.name == "Donut";
    let size = read_size(keys, "size", own, is_square, is_reversed);
    let filter = keys.read("resample", class.resample, "1 (Lanczos), 2 (bilinear) or 3 (bicubic)", |value| {
        value.as_u64().filter(|number| Filter::of(*number).is_some())
    });
    let filter = Filter::of(filter).unwrap_or(Filter::Bilinear);
    let resizes = keys.bool("do_resize", true);
    let mut steps = Vec::new();
    let mut out = None;
    if class.is_document {
        let Size::Exact(size) = size else {
            keys.wrong("size", "a height and a width", &Value::from("shortest_edge"));
            return (steps, [1, 1]);
        };
        steps.extend(document(keys, class, size, filter, resizes));
        out = steps.contains(&Step::Pad(size)).then_some(size);
    } else {
        keys.only("do_pad", false, CHANGES);
        if resizes {
            match size {
                Size::Exact(size) => {
                    out = Some(size);
                    steps.push(Step::Resize(size, filter));
                }
                Size::ShortestEdge(edge) => steps.push(Step::ResizeShortestEdge(edge, filter)),
            }
        }
    }
    keys.ignore(&["pad_size"]);
    let own = Size::Exact([class.crop.unwrap_or(224) as usize; 2]);
    let crop = read_size(keys, "crop_size", own, true, false);
    if keys.bool("do_center_crop", class.crop.is_some()) {
        match crop {
            Size::Exact(size) => {
                out = Some(size);
                steps.push(Step::Crop(size));
            }
            Size::ShortestEdge(edge) => keys.wrong("crop_size", "a height and a width", &Value::from(edge)),
        }
    }
    let size = out.unwrap_or_else(|| {
        keys.wrong("do_center_crop", "images of one size; nothing brings them to one", &Value::from(false));
        [1, 1]
    });
    (steps, size)
}

/// Donut and Nougat keep the aspect.
fn document(keys: &mut Keys, class: &Class, size: [usize; 2], filter: Filter, resizes: bool) -> Vec<Step> {
    let is_nougat = class.name == "Nougat";
    keys.only("random_padding", false, CHANGES);
    let trims = is_nougat && keys.bool("do_crop_margin", true);
    let turns = keys.bool("do_align_long_axis", false);
    let fits = keys.bool("do_thumbnail", true);
    let pads = keys.bool("do_pad", true);
    [
        (trims, Step::TrimMargin),
        (turns, Step::AlignLongAxis(size)),
        (resizes, Step::ResizeShortestEdge(size[0].min(size[1]), filter)),
        (fits, if is_nougat { Step::FitPage(size) } else { Step::Fit(size, filter) }),
        (pads, Step::Pad(size)),
    ]
    .into_iter()
    .filter_map(|(is_done, step)| is_done.then_some(step))
    .collect()
}

/// One number, a list of [height, width], or an object. `is_reversed`: the list is [width, height] (Donut's old configs).
fn read_size(keys: &mut Keys, key: &str, own: Size, is_square: bool, is_reversed: bool) -> Size {
    let side = |value: &Value| value.as_u64().filter(|n| (1..=PIXELS_SIDE).contains(n)).map(|n| n as usize);
    let expected = format!("a height and a width, or a shortest_edge, from 1 to {PIXELS_SIDE}");
    keys.read(key, own, &expected, |value| match value {
        Value::Number(_) if is_square => side(value).map(|side| Size::Exact([side, side])),
        Value::Number(_) => side(value).map(Size::ShortestEdge),
        Value::Array(sides) => {
            let [a, b] = [side(sides.first()?)?, side(sides.get(1).filter(|_| sides.len() == 2)?)?];
            Some(Size::Exact(if is_reversed { [b, a] } else { [a, b] }))
        }
        Value::Object(named) => {
            let sides: Vec<(&str, usize)> =
                named.iter().map(|(name, value)| Some((name.as_str(), side(value)?))).collect::<Option<_>>()?;
            match sides[..] {
                [("height", height), ("width", width)] | [("width", width), ("height", height)] => {
                    Some(Size::Exact([height, width]))
                }
                [("shortest_edge", edge)] => Some(Size::ShortestEdge(edge)),
                _ => None,
            }
        }
        _ => None,
    })
}

/// How bytes become numbers.
struct Values {
    scale: f64,
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Values {
    fn read(keys: &mut Keys, class: &Class) -> Values {
        let scale = keys.read("rescale_factor", 1.0 / 255.0, "a number above 0", |value| {
            value.as_f64().filter(|scale| scale.is_finite() && *scale > 0.0)
        });
        let scale = if keys.bool("do_rescale", true) { scale } else { 1.0 };
        let mean = channels(keys, "image_mean", &class.mean, |_| true);
        let std = channels(keys, "image_std", &class.std, |std| std != 0.0);
        if mean.len() != std.len() {
            keys.wrong("image_std", &format!("as many as image_mean, {}", mean.len()), &Value::from(std.len()));
        }
        match keys.bool("do_normalize", true) {
            true => Values { scale, mean, std },
            false => Values { scale, std: vec![1.0; mean.len()], mean: vec![0.0; mean.len()] },
        }
    }
}

/// A number for each of one or three channels; one number alone is that of all three.
fn channels(keys: &mut Keys, key: &str, own: &[f32], is_good: fn(f32) -> bool) -> Vec<f32> {
    let number = |value: &Value| value.as_f64().map(|x| x as f32).filter(|x| x.is_finite() && is_good(*x));
    keys.read(key, own.to_vec(), "a number for each of 1 or 3 channels", |value| match value {
        Value::Array(list) if matches!(list.len(), 1 | 3) => list.iter().map(number).collect(),
        value => number(value).map(|number| vec![number; 3]),
    })
}
