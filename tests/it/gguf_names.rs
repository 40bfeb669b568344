//! The pages that say how GGUF files name things, compared with the tables that the files are written by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;

use converters::export::gguf::{Array, Value};
use converters::{ARCHITECTURES, Dialect, import};

use crate::fixture::{fixtures, repository};

/// A name with its stack as a letter: `{s}.blk.{i}.attn_q`.
fn any_stack(name: &str) -> String {
    let module = [".weight", ".bias"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    match module.split_once('.') {
        Some(("enc" | "dec", rest)) if !module.starts_with("dec.token_embd") => format!("{{s}}.{rest}"),
        _ => module.to_owned(),
    }
}

#[test]
fn every_name_of_a_tensor_is_explained_and_every_explained_name_is_used() {
    let names = ARCHITECTURES.iter().flat_map(|a| a.gguf_names());
    let used: BTreeSet<String> = names.map(|(_, name)| any_stack(name)).collect();
    let page = fs::read_to_string(repository("docs/formats.md")).expect("there");
    let (_, table) = page.split_once("| name | what |\n| --- | --- |\n").expect("the table of names");
    let cells = table.lines().take_while(|line| line.starts_with('|')).filter_map(|line| line.split('|').nth(1));
    let listed: Vec<String> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    let explained: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(explained.len(), listed.len(), "a name is explained twice: {listed:?}");
    let missing: Vec<&String> = used.difference(&explained).collect();
    let unused: Vec<&String> = explained.difference(&used).collect();
    assert!(
        missing.is_empty() && unused.is_empty(),
        "docs/formats.md lacks {missing:?} and has {unused:?} for nothing"
    );
}

/// A value's type in the words of the page.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::U8(_) => "u8",
        Value::I8(_) => "i8",
        Value::U16(_) => "u16",
        Value::I16(_) => "i16",
        Value::U32(_) => "u32",
        Value::I32(_) => "i32",
        Value::F32(_) => "f32",
        Value::Bool(_) => "bool",
        Value::String(_) => "string",
        Value::U64(_) => "u64",
        Value::I64(_) => "i64",
        Value::F64(_) => "f64",
        Value::Array(Array::U32(_)) => "u32[]",
        Value::Array(Array::I32(_)) => "i32[]",
        Value::Array(Array::F32(_)) => "f32[]",
        Value::Array(Array::Bool(_)) => "bool[]",
        Value::Array(Array::String(_)) => "string[]",
        Value::Array(_) => "an array",
    }
}

/// The page: for each family, the keys that its fixtures have and the modules of its table.
fn page() -> String {
    let mut keys: BTreeMap<&str, Vec<(String, &str)>> = BTreeMap::new();
    for dir in fixtures() {
        let model = import(&dir).unwrap_or_else(|e| panic!("{e}"));
        // What llama.cpp does not compute has no keys.
        let Ok(metadata) = model.architecture.gguf_metadata(&model.checkpoint) else { continue };
        let known = keys.entry(model.architecture.model_types()[0]).or_default();
        for (key, value) in metadata {
            if !known.iter().any(|(known, _)| *known == key) {
                known.push((key, type_name(&value)));
            }
        }
    }
    let mut page = String::from(
        "# GGUF: keys and names of each family\n\nWritten by the tests with `BLESS=1` from the tables that files are written \
         by. What the names mean, and the keys that\nall families have, is in [formats.md](formats.md).\n",
    );
    for architecture in ARCHITECTURES.iter().filter(|a| !a.gguf_names().is_empty()) {
        let types = architecture.model_types();
        write!(page, "\n## {}\n\n| key | type |\n| --- | --- |\n", types.join(", ")).expect("to memory");
        for (key, ty) in keys.get(types[0]).into_iter().flatten() {
            writeln!(page, "| `{key}` | {ty} |").expect("to memory");
        }
        page.push_str("\n| in the checkpoint | in the file |\n| --- | --- |\n");
        for (ours, theirs) in architecture.gguf_names() {
            writeln!(page, "| `{ours}` | `{theirs}` |").expect("to memory");
        }
        for dialect in architecture.dialects() {
            dialect_page(&mut page, types, dialect);
        }
    }
    page
}

/// The keys of a dialect, of the first fixture of the family, and its names.
fn dialect_page(page: &mut String, types: &[&str], dialect: &Dialect) {
    write!(page, "\n### {} for {}\n\n| key | type |\n| --- | --- |\n", types[0], dialect.engine).expect("to memory");
    let checkpoints = fixtures().into_iter().map(|dir| import(&dir).unwrap_or_else(|e| panic!("{e}")));
    let mut of_family = checkpoints.filter(|model| model.architecture.model_types() == types);
    let model = of_family.next().expect("a fixture");
    for (key, value) in (dialect.keys)(&model.checkpoint).expect("keys") {
        writeln!(page, "| `{key}` | {} |", type_name(&value)).expect("to memory");
    }
    for (name, table) in (dialect.tables)(&model.checkpoint).expect("tables") {
        writeln!(page, "| `{name}` | a tensor f32 of {} dimensions |", table.shape().len()).expect("to memory");
    }
    page.push_str("\n| in the checkpoint | in the file |\n| --- | --- |\n");
    for (ours, theirs) in dialect.names {
        writeln!(page, "| `{ours}` | `{}` |", theirs.trim_start_matches('=')).expect("to memory");
    }
}

#[test]
fn the_page_of_keys_and_names_is_current() {
    let file = repository("docs/gguf-names.md");
    let page = page();
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, &page).expect("written");
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == page, "run the tests once with BLESS=1 and look at the difference");
}
