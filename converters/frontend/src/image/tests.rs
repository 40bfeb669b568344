//! Images and pixels against those of transformers, recorded by tests/fixtures/images/make.py.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use checkpoint::names::{CONFIG, PREPROCESSOR_CONFIG, PROCESSOR_CONFIG};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::*;

/// transformers' processors for torchvision join both steps into one in f32; ours are those for Pillow.
const F32_NOISE: f32 = 1e-6; // 2.4e-7 of values up to 2.6
/// Decoders of JPEG are free in their transforms, and in how they widen colours of half the resolution: at most, and on average.
const JPEG_LEVELS: [f64; 2] = [5.0, 0.5]; // 4 and 0.40

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/images").join(name)
}

/// Shapes and bytes of what was recorded.
fn golden(name: &str) -> HashMap<String, (Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(fixture(&format!("{name}.safetensors"))).expect("recorded");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    tensors.tensors().into_iter().map(|(name, t)| (name, (t.shape().to_vec(), t.data().to_vec()))).collect()
}

/// A folder with this preprocessor_config.json.
fn folder(json: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    fs::write(dir.path().join(PREPROCESSOR_CONFIG), json.to_string()).expect("written");
    dir
}

fn settings() -> Value {
    serde_json::from_slice(&fs::read(fixture("processors.json")).expect("recorded")).expect("JSON")
}

fn processor(json: &Value) -> ImageProcessor {
    ImageProcessor::open(folder(json).path()).unwrap_or_else(|e| panic!("{e}"))
}

fn refused(json: &Value) -> String {
    ImageProcessor::open(folder(json).path()).expect_err("refused").to_string()
}

/// Bytes as [channels, height, width].
fn planes(raster: &Raster, channels: usize) -> (Vec<usize>, Vec<u8>) {
    let [height, width] = raster.size();
    let of = |channel: usize| raster.bytes().iter().skip(channel % raster.channels()).step_by(raster.channels());
    (vec![channels, height, width], (0..channels).flat_map(of).copied().collect())
}

/// How many of the recorded pixels were compared, all of them equal.
fn compared(name: &str, how: Library) -> usize {
    let settings = settings();
    let recorded = golden(name);
    let mut seen = 0;
    for (case, expected) in &recorded {
        let (of, image) = case.rsplit_once('/').expect("a processor and an image");
        let Some(json) = settings.get(of) else { continue };
        let found = processor(json).like(how).bytes(&fixture(&format!("{image}.png")));
        assert_eq!(&planes(&found.unwrap_or_else(|e| panic!("{case}: {e}")), 3), expected, "{case}");
        seen += 1;
    }
    seen
}

#[test]
fn bytes_equal_those_of_pillow_in_every_format_and_shape() {
    assert_eq!(compared("pillow-12", Library::Pillow), 68);
}

#[test]
fn bytes_equal_those_of_pillow_13_where_it_resizes_rows_first() {
    assert!(compared("pillow-13", Library::Pillow13) > 5);
}

#[test]
fn bytes_equal_those_of_torchvision() {
    assert_eq!(compared("torchvision", Library::Torchvision), 64);
}

#[test]
fn values_equal_those_of_transformers_to_the_bit_and_torchvision_to_the_noise_of_f32() {
    let settings = settings();
    let floats = |(_, bytes): &(Vec<usize>, Vec<u8>)| -> Vec<f32> {
        bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    let mut seen = 0;
    for (case, expected) in golden("pillow-12") {
        let [kind, of, image] = case.split('/').collect::<Vec<_>>()[..] else { continue };
        let file = fixture(&format!("{image}.png"));
        let ours = processor(&settings[of]);
        let noise = match kind {
            "values" => 0.0,
            _ => F32_NOISE,
        };
        let how = if kind == "fused" { Library::Torchvision } else { Library::Pillow };
        let Pixels(found) = ours.like(how).see(&file).expect("an image");
        assert_eq!(found.shape(), expected.0, "{case}");
        let worst = found.as_f32().expect("floats").iter().zip(floats(&expected)).map(|(a, b)| (a - b).abs());
        let worst = worst.fold(0.0, f32::max);
        assert!(worst <= noise, "{case}: {worst:e}");
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn jpegs_are_those_of_pillow_within_a_few_levels() {
    for (case, (shape, expected)) in golden("pillow-12") {
        let Some(image) = case.strip_prefix("jpeg/") else { continue };
        let Decoded { raster, orientation, .. } = file::read(&fixture(&format!("{image}.jpg")), 0).expect("an image");
        let found = raster.oriented(orientation);
        assert_eq!([&found.size()[..], &[found.channels()]].concat(), shape, "{case}");
        let apart: Vec<f64> = found.bytes().iter().zip(&expected).map(|(a, b)| f64::from(a.abs_diff(*b))).collect();
        let found = [apart.iter().copied().fold(0.0, f64::max), apart.iter().sum::<f64>() / apart.len() as f64];
        println!("{case}: {found:?}");
        assert!(found[0] <= JPEG_LEVELS[0] && found[1] <= JPEG_LEVELS[1], "{case}: {found:?}");
    }
}

/// The error of a file that holds this, under the settings `vit`, without the path.
fn refusal(name: &str, bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().expect("temporary folder");
    let file = dir.path().join(name);
    fs::write(&file, bytes).expect("written");
    let error = processor(&settings()["vit"]).see(&file).expect_err(name).to_string();
    let found = error.strip_prefix(&format!("{}: ", file.display())).unwrap_or_else(|| panic!("{error}"));
    found.replace(&file.display().to_string(), "FILE")
}

/// A PNG's first chunk with these sides, after which nothing comes.
fn header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = fs::read(fixture("tall.png")).expect("a fixture");
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    bytes.truncate(29);
    bytes
}

/// A PNG of these sides without a pixel.
fn blank(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ::png::Encoder::new(&mut bytes, width, height).write_header().expect("a header");
    writer.write_chunk(::png::chunk::IDAT, &[]).expect("a chunk");
    drop(writer);
    bytes
}

#[test]
fn what_is_no_image_or_not_one_that_is_read_has_an_error_of_its_own() {
    let read = |name: &str| fs::read(fixture(name)).expect("a fixture");
    let hint = "\nhint: magick FILE read.png";
    for (name, bytes, expected) in [
        ("a.txt", b"no image, a text".to_vec(), "expected a PNG or a JPEG, found 16 bytes that begin with \"no image\"".to_owned()),
        ("empty.png", Vec::new(), "expected a PNG or a JPEG, found 0 bytes that begin with \"\"".to_owned()),
        ("a.gif", b"GIF89a....".to_vec(), format!("expected a PNG or a JPEG, found a GIF, which may be an animation{hint}")),
        ("a.webp", b"RIFF....WEBPVP8 ".to_vec(), format!("expected a PNG or a JPEG, found a WebP{hint}")),
        ("deep.png", read("deep.png"), "expected at most 8 bits a channel, found 16\nhint: magick FILE -depth 8 read.png".to_owned()),
        ("cmyk.jpg", read("cmyk.jpg"), "expected gray or RGB, found CMYK\nhint: magick FILE -colorspace sRGB read.png".to_owned()),
        ("animated.png", read("animated.png"), "expected one image, found an animation of 2\nhint: magick 'FILE[0]' still.png".to_owned()),
        ("huge.png", header(100_000, 100_000), "expected sides of 1 to 65535 pixels, found 100000 x 100000".to_owned()),
        ("flat.png", header(7, 0), "expected sides of 1 to 65535 pixels, found 7 x 0".to_owned()),
        (
            "bomb.png",
            blank(60_000, 60_000),
            "60000 x 60000 pixels: expected contents that take at most 64 MB of memory, found more in fewer bytes than a \
             published file has\nhint: magick FILE -resize '4096x4096>' read.png"
                .to_owned(),
        ),
    ] {
        assert_eq!(refusal(name, &bytes), expected, "{name}");
    }
    let missing = processor(&settings()["vit"]).see(Path::new("nowhere.png")).expect_err("no file").to_string();
    assert!(missing.starts_with("nowhere.png: "), "{missing}");
}

#[test]
fn a_file_cut_short_or_damaged_is_refused_and_never_a_panic() {
    for name in ["interlaced-1.png", "palette-2.png", "gray.jpg", "progressive.jpg", "turned.jpg"] {
        let whole = fs::read(fixture(name)).expect("a fixture");
        // The last marker of a JPEG ends nothing but the file.
        for cut in (1..16).map(|part| whole.len() * part / 16) {
            let error = refusal(name, &whole[..cut]);
            assert!(
                ["cut short", "damaged", "expected a PNG"].iter().any(|said| error.starts_with(said)),
                "{name} {cut}: {error}"
            );
        }
        let dir = tempfile::tempdir().expect("temporary folder");
        let (file, ours) = (dir.path().join(name), processor(&settings()["vit"]));
        for at in (0..whole.len()).step_by(if name.ends_with("png") { 1 } else { 11 }) {
            for flipped in [0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= flipped;
                fs::write(&file, &damaged).expect("written");
                let _ = ours.see(&file);
            }
        }
    }
}

#[test]
fn a_strip_that_is_resized_to_nothing_is_refused() {
    let ours = processor(&json!({"image_processor_type": "DonutImageProcessor", "size": {"height": 24, "width": 18}}));
    let strip = |name: &str, [height, width]: [usize; 2]| {
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = dir.path().join(name);
        let mut bytes = Vec::new();
        let mut encoder = ::png::Encoder::new(&mut bytes, width as u32, height as u32);
        encoder.set_color(::png::ColorType::Grayscale);
        let mut writer = encoder.write_header().expect("a header");
        writer.write_image_data(&vec![7; height * width]).expect("pixels");
        writer.finish().expect("an end");
        fs::write(&file, bytes).expect("written");
        ours.see(&file).map_err(|error| error.to_string().replace(&file.display().to_string(), "FILE"))
    };
    assert!(strip("short.png", [400, 20]).is_ok());
    assert_eq!(
        strip("long.png", [40_000, 20]),
        Err("FILE: 20 x 40000 pixels: so long that its short side is resized to nothing; cut it in parts".to_owned())
    );
    let page = processor(&json!({"image_processor_type": "NougatImageProcessor", "size": {"height": 24, "width": 18}}));
    let error = page.see(&fixture("tall.png")).expect_err("five times as long").to_string();
    assert!(
        error.ends_with("so long that Pillow resizes it in two steps, which is not reproduced; cut it in pages"),
        "{error}"
    );
}

#[test]
fn settings_are_read_in_all_forms_that_were_ever_written() {
    let shape = |json: Value| processor(&json).shape();
    let of = |kind: &str, more: Value| {
        let mut json = json!({"feature_extractor_type": kind});
        json.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
        json
    };
    assert_eq!(shape(of("ViTFeatureExtractor", json!({"size": 384}))), [3, 384, 384]);
    assert_eq!(shape(of("ViTFeatureExtractor", json!({"size": [32, 48]}))), [3, 32, 48]);
    assert_eq!(shape(of("ViTImageProcessorFast", json!({}))), [3, 224, 224]);
    assert_eq!(shape(of("DeiTFeatureExtractor", json!({"size": 384, "do_center_crop": false}))), [3, 384, 384]);
    assert_eq!(shape(of("DeiTImageProcessor", json!({}))), [3, 224, 224]);
    assert_eq!(shape(of("CLIPImageProcessor", json!({"size": 99, "crop_size": 77}))), [3, 77, 77]);
    let florence = json!({"size": {"height": 768, "width": 768}, "do_center_crop": false, "image_seq_length": 577,
        "crop_size": {"height": 768, "width": 768}, "resample": 3, "processor_class": "Florence2Processor"});
    assert_eq!(shape(of("CLIPImageProcessor", florence)), [3, 768, 768]);
    // Donut's first configs have the width first.
    assert_eq!(shape(of("DonutFeatureExtractor", json!({"size": [1920, 2560]}))), [3, 2560, 1920]);
    assert_eq!(shape(of("DonutImageProcessor", json!({}))), [3, 2560, 1920]);
    let one = json!({"image_mean": [0.5], "image_std": [0.25], "size": {"height": 4, "width": 6}});
    let gray = processor(&of("ViTImageProcessor", one));
    assert_eq!(gray.shape(), [1, 4, 6]);
    let Pixels(found) = gray.see(&fixture("one.png")).expect("an image");
    // (19595 · 200 + 38470 · 7 + 7471 · 90) / 2^16 is 74.2.
    let expected = ((74.0_f64 / 255.0) as f32 - 0.5) / 0.25;
    assert!(found.as_f32().expect("floats").iter().all(|value| *value == expected), "{found:?}");

    let dir = folder(&json!({"image_processor_type": "ViTImageProcessor", "size": 32}));
    fs::write(
        dir.path().join(PROCESSOR_CONFIG),
        r#"{"image_processor": {"image_processor_type": "ViTImageProcessor", "size": 16}}"#,
    )
    .expect("written");
    assert_eq!(ImageProcessor::open(dir.path()).expect("settings").shape(), [3, 16, 16], "the newer file counts");
}

#[test]
fn all_that_is_wrong_with_settings_is_told_at_once() {
    let error = refused(
        &json!({"image_processor_type": "ViTImageProcessor", "resample": 0, "do_pad": true, "size": {"longest_edge": 5},
        "image_std": [0.5, 0.0, 0.5], "size_divisor": 32}),
    );
    assert!(
        error.ends_with(
            "preprocessor_config.json: size = {\"longest_edge\":5}, expected a height and a width, or a shortest_edge, from 1 to 8192; \
             resample = 0, expected 1 (Lanczos), 2 (bilinear) or 3 (bicubic); do_pad = true, expected false; it changes the pixels; \
             image_std = [0.5,0.0,0.5], expected a number for each of 1 or 3 channels; not known, may change the pixels: size_divisor"
        ),
        "{error}"
    );
    for (json, expected) in [
        (
            json!({"image_processor_type": "BeitImageProcessor"}),
            "image_processor_type = \"BeitImageProcessor\", expected one of DeiTImageProcessor, CLIPImageProcessor, \
             SiglipImageProcessor, DonutImageProcessor, NougatImageProcessor, ViTImageProcessor",
        ),
        (
            json!({"image_processor_type": "CLIPImageProcessor", "do_center_crop": false}),
            "do_center_crop = false, expected images of one size; nothing brings them to one",
        ),
        (
            json!({"image_processor_type": "ViTImageProcessor", "size": 8192}),
            "size = [8192,8192], expected one of at most 16777216 numbers",
        ),
        (
            json!({"image_processor_type": "SiglipImageProcessor", "image_mean": [0.5], "image_std": [0.5]}),
            "do_convert_rgb = true, expected false beside an image_mean of one channel",
        ),
    ] {
        let error = refused(&json);
        assert!(error.ends_with(&format!("preprocessor_config.json: {expected}")), "{error}");
    }
    let empty = tempfile::tempdir().expect("temporary folder");
    let error = ImageProcessor::open(empty.path()).expect_err("nothing").to_string();
    assert!(error.contains("preprocessor_config.json, which says how images are resized"), "{error}");

    let dir = folder(&json!({"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 24}}));
    fs::write(dir.path().join(CONFIG), r#"{"encoder": {"image_size": [24, 16], "num_channels": 3}}"#).expect("written");
    let error = ImageProcessor::open(dir.path()).expect_err("another size").to_string();
    assert!(
        error.ends_with(
            "expected images of [3, 24, 16] (channels, height, width) as the encoder of config.json takes them, found [3, 16, 24]"
        ),
        "{error}"
    );
}

#[test]
fn gray_takes_colours_away_before_all_else() {
    let ours = || processor(&settings()["vit"]);
    let file = fixture("large.png");
    let (colour, gray) = (
        ours().see(&file).expect("an image").0,
        ours().with(ImageSettings { gray: true }).see(&file).expect("an image").0,
    );
    let planes =
        |pixels: &Tensor| pixels.as_f32().expect("floats").chunks(16 * 24).map(<[f32]>::to_vec).collect::<Vec<_>>();
    let [r, g, b] = &planes(&gray)[..] else { panic!("three channels") };
    assert!(r == g && g == b && planes(&colour)[0] != planes(&colour)[1]);
}
