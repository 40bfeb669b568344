//! First inputs, made of the repository's fixtures.

use std::fs;
use std::path::Path;

use converters::export::imatrix::{self, Entry};
use converters::{FORMATS, Model, import};

use crate::{FAMILIES, fixture, folder};

/// Folders with a tokenizer.
pub const TOKENIZERS: [&str; 8] = [
    "tokenizer/bart", "tokenizer/bart-json", "tokenizer/blenderbot-small", "tokenizer/m2m100", "tokenizer/marian",
    "tokenizer/mbart", "tokenizer/plbart", "tokenizer/whisper-json",
];

/// A file of each family's fixture, where it has it, after a byte for the family.
pub fn by_family(file: &str) -> Vec<Vec<u8>> {
    let read = |(i, name): (usize, &&str)| Some([&[i as u8][..], &fs::read(fixture(name).join(file)).ok()?].concat());
    FAMILIES.iter().enumerate().filter_map(read).collect()
}

/// Images of every format, after a byte for a processor.
pub fn images() -> Vec<Vec<u8>> {
    let folder = fs::read_dir(fixture("images")).expect("fixtures").map(|entry| entry.expect("readable").path());
    let is_image = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "png" || end == "jpg");
    let mut files: Vec<_> = folder.filter(is_image).collect();
    files.sort();
    files.iter().enumerate().map(|(i, file)| [&[i as u8][..], &fs::read(file).expect("a fixture")].concat()).collect()
}

/// Settings of image processors.
pub fn processors() -> Vec<Vec<u8>> {
    let settings = fs::read(fixture("images/processors.json")).expect("a fixture");
    let settings: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&settings).expect("JSON");
    settings.values().map(|settings| settings.to_string().into_bytes()).collect()
}

/// Settings of front ends, after a byte.
pub fn preprocessors() -> Vec<Vec<u8>> {
    let images = processors().into_iter().map(|settings| [&[0][..], &settings].concat());
    by_family("preprocessor_config.json").into_iter().chain(images).collect()
}

pub fn files(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| fs::read(fixture(name)).expect("a fixture")).collect()
}

/// Files below the fixtures of tokenizers whose name is one of these.
fn of_tokenizers(names: &[&str]) -> Vec<Vec<u8>> {
    let folders = fs::read_dir(fixture("tokenizer")).expect("fixtures").map(|entry| entry.expect("readable").path());
    let mut folders: Vec<_> = folders.collect();
    folders.sort();
    folders.iter().flat_map(|folder| names.iter().filter_map(|name| fs::read(folder.join(name)).ok())).collect()
}

/// After a byte for the class.
pub fn word_pieces() -> Vec<Vec<u8>> {
    let files = of_tokenizers(&["vocab.txt"]);
    files.iter().flat_map(|file| [0, 1].map(|class| [&[class][..], file].concat())).collect()
}

pub fn tokenizers() -> Vec<Vec<u8>> {
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/g2p-t5/tokenizer.json");
    let mut seeds = of_tokenizers(&["tokenizer.json"]);
    seeds.push(fs::read(bundled).expect("a fixture"));
    let step = |key: &str, step: &str| {
        let model = r#"{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"<unk>":3},"merges":["a b"],"unk_token":"<unk>"}"#;
        format!(r#"{{"version":"1.0","added_tokens":[],"{key}":{step},"model":{model}}}"#).into_bytes()
    };
    for (key, steps) in [
        ("normalizer", &[r#"{"type":"NFKC"}"#, r#"{"type":"Replace","pattern":{"Regex":"a+"},"content":"b"}"#,
            r#"{"type":"Strip","strip_left":true,"strip_right":true}"#, r#"{"type":"Prepend","prepend":"a"}"#,
            r#"{"type":"Sequence","normalizers":[{"type":"Lowercase"},{"type":"Nmt"},{"type":"StripAccents"}]}"#,
            r#"{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true}"#][..]),
        ("pre_tokenizer", &[r#"{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}"#,
            r#"{"type":"Split","pattern":{"String":"a"},"behavior":"Isolated","invert":false}"#,
            r#"{"type":"Metaspace","replacement":"_","prepend_scheme":"always","split":true}"#,
            r#"{"type":"FixedLength","length":3}"#, r#"{"type":"Punctuation","behavior":"Removed"}"#,
            r#"{"type":"Digits","individual_digits":true}"#][..]),
        ("post_processor", &[r#"{"type":"RobertaProcessing","sep":["b",1],"cls":["a",0],"trim_offsets":true,"add_prefix_space":true}"#,
            r#"{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"a","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"a":{"id":"a","ids":[0],"tokens":["a"]}}}"#][..]),
        ("decoder", &[r#"{"type":"Strip","content":"a","start":1,"stop":0}"#, r#"{"type":"ByteFallback"}"#,
            r#"{"type":"CTC","pad_token":"a","word_delimiter_token":"b","cleanup":true}"#, r#"{"type":"WordPiece","prefix":"a","cleanup":true}"#,
            r#"{"type":"Replace","pattern":{"String":"a"},"content":"b"}"#, r#"{"type":"Fuse"}"#, r#"{"type":"BPEDecoder","suffix":"b"}"#][..]),
    ] {
        seeds.extend(steps.iter().map(|text| step(key, text)));
    }
    for model in [
        r#"{"type":"WordPiece","unk_token":"a","continuing_subword_prefix":"b","max_input_chars_per_word":9,"vocab":{"a":0,"bb":1}}"#,
        r#"{"type":"WordLevel","vocab":{"a":0,"b":1},"unk_token":"a"}"#,
        r#"{"type":"Unigram","unk_id":0,"vocab":[["a",0.0],["b",-1.5],["ab",-2.0]],"byte_fallback":true}"#,
    ] {
        seeds.push(format!(r#"{{"version":"1.0","added_tokens":[],"model":{model}}}"#).into_bytes());
    }
    seeds
}

pub fn sentencepiece() -> Vec<Vec<u8>> {
    let mut models = of_tokenizers(&["sentencepiece.bpe.model", "spiece.model", "source.spm"]);
    models.extend(files(&["tokenizer/byte-fallback.model", "tokenizer/spaces-kept.model"]));
    (0..5_u8).flat_map(|which| models.iter().map(move |model| [&[which][..], model].concat())).collect()
}

pub fn vocabulary() -> Vec<Vec<u8>> {
    let both = |(which, name): (u8, &str)| {
        let [vocab, merges] = ["vocab.json", "merges.txt"].map(|file| fs::read(fixture(name).join(file)).expect("a fixture"));
        [&[which][..], &vocab, &[0], &merges].concat()
    };
    let mut seeds: Vec<Vec<u8>> = (0..).zip(["tokenizer/bart", "tokenizer/blenderbot", "tokenizer/whisper", "tokenizer/blenderbot-small"]).map(both).collect();
    seeds.push(b"\x03{\"__start__\":0,\"__end__\":1,\"__unk__\":2,\"__null__\":3,\"a@@\":4,\"b\":5}\0#version\na b\nab b</w>\n".to_vec());
    seeds.push(b"\x00{\"<s>\":0,\"</s>\":1,\"<unk>\":2,\"<pad>\":3,\"a\":4,\"b\":5,\"ab\":6,\"<mask>\":7}\0#version\na b\n".to_vec());
    seeds
}

pub fn tokenizer_config() -> Vec<Vec<u8>> {
    let config = br#"{"tokenizer_class":"BartTokenizer","src_lang":"en_XX","added_tokens_decoder":{"5":{"content":"x","special":true}},"extra_special_tokens":["a"],"language_codes":"base","clean_up_tokenization_spaces":true}"#;
    (0..TOKENIZERS.len() as u8).map(|which| [&[which][..], config].concat()).collect()
}

pub fn wav() -> Vec<Vec<u8>> {
    let clips = fs::read_dir(fixture("audio")).expect("fixtures").map(|entry| entry.expect("readable").path());
    let clips = clips.filter(|path| path.extension().is_some_and(|end| end == "wav"));
    clips.map(|path| fs::read(path).expect("a fixture")).map(|mut wav| { wav.truncate(4096); wav }).collect()
}

/// Whole, and the header alone over data of zeros.
pub fn safetensors() -> Vec<Vec<u8>> {
    let small = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"__metadata__":{"format":"pt"}}"#;
    let mut file = (small.len() as u64).to_le_bytes().to_vec();
    file.extend(small.as_bytes());
    file.extend([0; 4]);
    [files(&["t5-v1.1/model.safetensors"]), vec![file]].concat()
}

pub fn pickle() -> Vec<Vec<u8>> {
    let hostile = fs::read_dir(fixture("../hostile")).expect("files").map(|entry| entry.expect("readable").path());
    let hostile = hostile.filter(|path| path.extension().is_some_and(|end| end == "bin" || end == "pt"));
    let mut seeds: Vec<Vec<u8>> = hostile.map(|path| fs::read(path).expect("readable")).collect();
    seeds.extend(files(&["t5-bin/pytorch_model.bin", "mu/model.pt"]));
    seeds.push(b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01K\x01X\x01\x00\x00\x00bq\x02]q\x03(K\x01K\x02eu.".to_vec());
    seeds.push(b"(dp0\nVn\np1\nI-3\nsVf\np2\nF2.5\nsVt\np3\nI01\nsVbig\np4\nL1099511627776L\ns.".to_vec());
    seeds.push(b"\x80\x02ccollections\nOrderedDict\n](X\x01\x00\x00\x00aK\x01\x86e\x85R.".to_vec());
    seeds
}

fn exported(name: &str, format: &str) -> Vec<Vec<u8>> {
    let mut model: Model = import(&fixture(name)).expect("a fixture");
    graph::passes::run(&mut model.graph).expect("passes");
    let format = FORMATS.iter().find(|known| known.name() == format).expect("a format");
    format.prepare(&mut model).expect("prepared");
    let folder = folder();
    let artifact = match format.write(&model, &folder) {
        Ok(artifact) => artifact,
        Err(error) => panic!("{name}: {error}"),
    };
    let files = artifact.files.iter().filter(|file| file.extension().is_some_and(|end| ["gguf", "onnx", "bin"].iter().any(|known| end == *known)));
    files.map(|file| fs::read(folder.join(file)).expect("written")).collect()
}

pub fn gguf() -> Vec<Vec<u8>> {
    [exported("t5-rows-of-32", "gguf"), exported("bart-rows-of-32", "gguf")].concat()
}

pub fn onnx() -> Vec<Vec<u8>> {
    exported("t5-v1.1", "onnx")
}

pub fn npu() -> Vec<Vec<u8>> {
    vec![br#"{"format":1,"ids":"i32","buckets":[{"name":"a","source_tokens":8,"past_tokens":8,"ports":[]}],"ranges":{"x":{"low":-1.0,"high":1.0}}}"#.to_vec()]
}

pub fn ctranslate2() -> Vec<Vec<u8>> {
    [exported("t5-v1.1", "ctranslate2"), exported("whisper", "ctranslate2")].concat()
}

pub fn imatrix() -> Vec<Vec<u8>> {
    let file = folder().join("imatrix.gguf");
    let entries = [
        Entry { name: "enc.blk.1.ffn_down.weight", mean_square: &[0.1, 0.0, 1e-30], rows: 1021 },
        Entry { name: "dec.blk.0.attn_q.weight", mean_square: &[0.3, 7.0], rows: 77 },
    ];
    imatrix::write(&file, &entries, "a.txt").expect("written");
    vec![fs::read(file).expect("there")]
}
