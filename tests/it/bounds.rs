//! Small inputs whose contents are large: each is read in a process of its own, whose memory is measured.

use std::fs;
use std::path::{Path, PathBuf};

use converters::Tokenizer;
use converters::export::imatrix;
use converters::export::onnx::{OnnxFile, describe};
use converters::import;
use converters::limits::{self, memory};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::{copy, fixture, repository};

/// What a process is to read, and from where.
const READS: &str = "TREFOIL_TEST_READS";

/// A folder whose file `text` is to be tokenized, beside a tokenizer.
const TEXT: &str = "text";

#[test]
#[ignore = "the other half of reading(), which starts it"]
fn a_process_reads_what_it_is_told() {
    let Ok(told) = std::env::var(READS) else { return };
    let (what, path) = told.split_once(':').expect("what and where");
    let path = Path::new(path);
    let before = peak_resident_bytes();
    let said = match what {
        "import" => import(path).map(drop).map_err(|e| e.to_string()),
        "tokenize" => tokenize(path),
        "onnx" => OnnxFile::open(path).map(drop).map_err(|e| e.to_string()),
        "describe" => describe(path).map(drop).map_err(|e| e.to_string()),
        "imatrix" => imatrix::read(path).map(drop).map_err(|e| e.to_string()),
        other => panic!("{other} is nothing to read"),
    };
    println!("TOOK {}", peak_resident_bytes() - before);
    println!("SAID {}", json!(said.err().unwrap_or_default()));
}

fn tokenize(dir: &Path) -> Result<(), String> {
    let tokenizer = Tokenizer::open(dir).map_err(|e| e.to_string())?;
    let text = fs::read_to_string(dir.join(TEXT)).expect("a text");
    let ids = tokenizer.encode(&text).map_err(|e| e.to_string())?;
    tokenizer.decode(&ids, false).map(drop).map_err(|e| e.to_string())
}

/// The most memory that this process had, in bytes; 0 where the system does not tell.
fn peak_resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Bytes that reading took, and what was said; nothing where it was read without an error.
fn reading(what: &str, path: &Path) -> (u64, String) {
    let this = std::env::current_exe().expect("the tests");
    let told = format!("{what}:{}", path.display());
    let arguments = ["--exact", "bounds::a_process_reads_what_it_is_told", "--ignored", "--nocapture"];
    let output = std::process::Command::new(this).args(arguments).env(READS, told).output().expect("started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let found = line("TOOK ").zip(line("SAID "));
    let (took, said) =
        found.unwrap_or_else(|| panic!("{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr)));
    let said: String = serde_json::from_str(said).expect("JSON");
    let dir = if path.is_dir() { path } else { path.parent().expect("a folder") };
    (took.parse().expect("a number"), said.replace(&format!("{}/", dir.display()), ""))
}

/// Reads, and holds the memory against that which the files of the folder allow. Returns what was said.
fn bounded(what: &str, path: &Path) -> String {
    let (took, said) = reading(what, path);
    let dir = if path.is_dir() { path } else { path.parent().expect("a folder") };
    let bytes =
        fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("readable").metadata().expect("there").len());
    let bytes: u64 = bytes.sum();
    println!("{what}: {} kB took {} MB: {said}", bytes >> 10, took >> 20);
    assert!(took <= memory(bytes), "{bytes} bytes took {took}: {said}");
    said
}

fn write(dir: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let file = dir.path().join(name);
    fs::write(&file, bytes).expect("written");
    file
}

fn edited(dir: &TempDir, name: &str, edit: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_slice(&fs::read(dir.path().join(name)).expect("there")).expect("JSON");
    edit(&mut json);
    write(dir, name, json.to_string());
}

const TOO_MUCH: &str = "expected contents that take at most ";

#[test]
fn a_pickle_takes_what_its_length_allows() {
    let dir = copy("t5-bin");
    let file = "pytorch_model.bin";
    fs::copy(repository("tests/hostile/deflated.bin"), dir.path().join(file)).expect("copied");
    assert_eq!(
        bounded("import", dir.path()),
        format!("{file}: a/data.pkl: expected an entry that is stored, as torch.save does, found a compressed one")
    );
    // Values of a byte, and tensors under a key of 80 kB, which is a part of each of their names.
    let values = [&b"\x80\x02("[..], &[b'N'; 1 << 20], b"t."].concat();
    let key = [&b"\x80\x02}X\x00\x40\x01\x00"[..], &[b'k'; 0x14000]].concat();
    let names = [key, b"(".to_vec(), b"ca\nc\n".repeat(1 << 11), b"ls.".to_vec()].concat();
    for pickle in [values, names] {
        write(&dir, file, pickle);
        let said = bounded("import", dir.path());
        assert!(said.starts_with(&format!("{file}: {TOO_MUCH}")), "{said}");
    }
    let tar = [&[0; 257][..], b"ustar", &[0; 1000]].concat();
    write(&dir, file, tar);
    let said = bounded("import", dir.path());
    assert_eq!(said, format!("{file}: expected a file of torch.save of PyTorch 0.1.10 or later, found a tar archive"));
}

/// A folder with the bundled tokenizer.
fn pieces() -> TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(repository("models/g2p-t5").join(name), dir.path().join(name)).expect("copied");
    }
    dir
}

#[test]
fn a_long_word_takes_what_its_length_allows() {
    let text = "a".repeat(20_000);
    let refusal = |edit: &dyn Fn(&mut Value)| {
        let dir = pieces();
        edited(&dir, "tokenizer.json", edit);
        write(&dir, TEXT, &text);
        bounded("tokenize", dir.path())
    };
    assert_eq!(refusal(&|_| {}), "");
    let replace =
        |content: usize| json!({"type": "Replace", "pattern": {"String": "a"}, "content": "b".repeat(content)});
    assert_eq!(
        refusal(&|json| json["normalizer"] = replace(1 << 20)),
        "tokenizer.json: normalizer: expected replacements that make a text at most 12 times as long, found 1048576 times"
    );
    let chain = json!({"type": "Sequence", "normalizers": vec![replace(2); 5]});
    let said = refusal(&|json| json["normalizer"] = chain.clone());
    assert!(said.ends_with("found 32 times"), "{said}");
    // Not too much for every text, but for this.
    let said = refusal(&|json| json["normalizer"] = replace(12));
    assert_eq!(said, "tokenizer.json: expected a text of at most 131072 bytes once normalized, found 240000");
    // A sequence that is something else, too.
    let hidden = json!({"type": "Replace", "normalizers": [], "pattern": {"String": "a"}, "content": "b".repeat(99)});
    assert!(refusal(&|json| json["normalizer"] = hidden.clone()).ends_with("found 99 times"));
    let many = json!({"type": "TemplateProcessing", "pair": [], "special_tokens": {},
        "single": vec![json!({"Sequence": {"id": "A", "type_id": 0}}); 5000]});
    assert_eq!(
        refusal(&|json| json["post_processor"] = many.clone()),
        "tokenizer.json: post_processor: expected a text once, found it 5000 times"
    );
    let word = "u".repeat(1 << 20);
    let said = refusal(&|json| {
        json["model"] = json!({"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": &word});
    });
    assert_eq!(said, "tokenizer.json: model: unk_token: expected at most 16 bytes, found 1048576");
    let said = refusal(&|json| json["added_tokens"][0]["content"] = json!(&word));
    assert_eq!(said, "tokenizer.json: expected pieces of at most 1024 bytes, found one of 1048576");
}

#[test]
fn a_text_is_tokenized_up_to_a_length_by_every_tokenizer() {
    let folders = fs::read_dir(fixture("tokenizer")).expect("fixtures").map(|entry| entry.expect("readable").path());
    let mut read = 0;
    for folder in folders.filter(|path| path.is_dir()) {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        for text in ["a", "A ", "<s>", "\u{fdfa}", "\u{301}", "\n", "é"] {
            let dir = copy(&format!("tokenizer/{name}"));
            write(&dir, TEXT, text.repeat(limits::TEXT_BYTES / text.len()));
            let said = bounded("tokenize", dir.path());
            let is_known = said.is_empty()
                || said.contains("once normalized, found ")
                || said.contains("expected words of at most 4096 characters, found one of ")
                || said.contains("found the language ");
            assert!(is_known, "{name}: {text:?}: {said}");
            read += 1;
        }
        let dir = copy(&format!("tokenizer/{name}"));
        write(&dir, TEXT, "a".repeat(limits::TEXT_BYTES + 1));
        let said = bounded("tokenize", dir.path());
        assert!(said.ends_with("expected a text of at most 131072 bytes, found 131073"), "{name}: {said}");
    }
    assert!(read > 100);
}

#[test]
fn json_takes_what_its_length_allows() {
    let dir = copy("t5-v1.1");
    let nested = "{\"a\":".repeat(100) + "[" + &"0,".repeat(100_000) + "0]" + &"}".repeat(100);
    write(&dir, "config.json", nested);
    let said = bounded("import", dir.path());
    assert!(said.starts_with("config.json: model_type is missing"), "{said}");
    write(&dir, "config.json", format!("{{\"a\":[{}0]}}", "[0],".repeat(1 << 20)));
    let said = bounded("import", dir.path());
    assert!(said.starts_with(&format!("config.json: not the expected JSON: {TOO_MUCH}")), "{said}");
    // Keys that nobody knows, each of which is a problem to be told.
    let dir = copy("t5-v1.1");
    let keys: Vec<String> = (0..20_000).map(|i| format!("\"{i}\":1")).collect();
    write(&dir, "generation_config.json", format!("{{{}}}", keys.join(",")));
    let said = bounded("import", dir.path());
    assert!(said.contains("20002 problems"), "{}", &said[..100]);
}

#[test]
fn only_regular_files_are_read() {
    if cfg!(not(unix)) {
        return;
    }
    let pipe = |path: &Path| {
        let _ = fs::remove_file(path);
        assert!(std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo").success());
    };
    let zeros = |path: &Path| {
        let _ = fs::remove_file(path);
        #[cfg(unix)]
        std::os::unix::fs::symlink("/dev/zero", path).expect("linked");
    };
    for (kind, make) in [("a pipe", &pipe as &dyn Fn(&Path)), ("a device without end", &zeros)] {
        // A checkpoint's file that is none is missing.
        let dir = copy("t5-v1.1");
        make(&dir.path().join("config.json"));
        assert!(
            bounded("import", dir.path()).ends_with("not a checkpoint: expected config.json, found none"),
            "{kind}"
        );
        let dir = copy("t5-v1.1");
        make(&dir.path().join("model.safetensors"));
        assert!(
            bounded("import", dir.path()).contains("not a checkpoint: expected one of model.safetensors"),
            "{kind}"
        );
        let refused = "expected a regular file, found a pipe, a device or a socket";
        let dir = pieces();
        make(&dir.path().join("tokenizer.json"));
        assert_eq!(bounded("tokenize", dir.path()), format!("tokenizer.json: {refused}"), "{kind}");
        let file = dir.path().join("model.onnx");
        make(&file);
        for what in ["onnx", "describe", "imatrix"] {
            assert_eq!(bounded(what, &file), format!("model.onnx: {refused}"), "{kind}");
        }
        assert_eq!(limits::read_text(&file).expect_err("refused").to_string(), refused, "{kind}");
        let data = validate::task::Data::load(&file, 1, &validate::task::Ids).expect_err("refused");
        assert!(data.to_string().ends_with(refused), "{kind}: {data}");
    }
}

#[test]
fn a_graph_of_empty_messages_takes_what_its_length_allows() {
    let dir = tempfile::tempdir().expect("temporary folder");
    for field in [0x0a_u8, 0x2a, 0x6a] {
        let inside = [field, 0].repeat(1 << 20);
        let mut model = vec![0x3a];
        model.extend([0x80, 0x80, 0x80, 0x01]);
        model.extend(&inside);
        assert_eq!(inside.len(), 1 << 21);
        let file = write(&dir, "model.onnx", model);
        for what in ["onnx", "describe"] {
            let said = bounded(what, &file);
            assert!(said.starts_with(&format!("model.onnx: {TOO_MUCH}")), "{said}");
        }
    }
}

#[test]
fn a_table_of_positions_is_computed_up_to_a_length() {
    for name in ["marian", "m2m_100", "pegasus"] {
        let dir = copy(name);
        edited(&dir, "config.json", |config| config["max_position_embeddings"] = json!(1u64 << 31));
        let said = bounded("import", dir.path());
        assert!(
            said.contains("max_position_embeddings = 2147483648 is not supported by")
                && said.contains("expected at most 65536 where the table of positions is computed"),
            "{name}: {said}"
        );
    }
}

#[test]
fn no_tokens_are_no_text() {
    // `BPEDecoder` of the crate looks for the last of them.
    let dir = tempfile::tempdir().expect("temporary folder");
    let model = json!({"type": "BPE", "vocab": {"a": 0}, "merges": []});
    let tokenizer = |decoder: Value| {
        write(&dir, "tokenizer.json", json!({"version": "1.0", "model": model, "decoder": decoder}).to_string());
        Tokenizer::open(dir.path())
    };
    let joins = json!({"type": "BPEDecoder", "suffix": "</w>"});
    let opened = tokenizer(joins.clone()).expect("a tokenizer");
    let texts = [&[][..], &[7], &[0]].map(|ids| opened.decode(ids, true).expect("decoded"));
    assert_eq!(texts, ["", "", "a"]);
    let drops = json!({"type": "CTC", "pad_token": "a", "word_delimiter_token": "|", "cleanup": false});
    let refused = tokenizer(json!({"type": "Sequence", "decoders": [drops, joins]})).expect_err("refused").to_string();
    assert!(refused.ends_with("decoder: expected BPEDecoder alone or first, found it behind another"), "{refused}");
}

#[test]
fn a_setting_of_any_size_ends_in_an_error() {
    for part in [1e19, 1e300, 2.5, -1e19, 1e-300] {
        let dir = copy("moonshine");
        edited(&dir, "config.json", |config| {
            config.as_object_mut().expect("keys").remove("rope_parameters");
            config["partial_rotary_factor"] = json!(part);
        });
        let said = bounded("import", dir.path());
        assert!(said.contains("is not supported by moonshine: it turns "), "{part}: {said}");
    }
    let dir = pieces();
    edited(&dir, "tokenizer.json", |json| {
        json["decoder"] = json!({"type": "Strip", "content": "a", "start": 0, "stop": 99});
    });
    write(&dir, TEXT, "aaa");
    assert_eq!(
        bounded("tokenize", dir.path()),
        "tokenizer.json: decoder: stop = 99, expected 0: it stops tokenizers where a token is shorter"
    );
}
