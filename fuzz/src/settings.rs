//! Settings of every family's config.json that nobody meant, through import, passes and every format.

use std::fs;

use converters::{FORMATS, import};
use serde_json::{Value, json};

use crate::{FAMILIES, fixture, linked, replaced};

/// Values at and beyond the edges of what numbers, words and lists may be.
fn values() -> Vec<Value> {
    let numbers = [0_i64, 1, 2, 3, 5, 7, 16, 64, 255, 256, 65_535, 65_536, 1 << 31, (1 << 31) + 1, i64::MAX, -1, i64::MIN];
    let floats = [0.0, -0.0, 0.5, 1.0, -1.0, 1e-300, 1e19, 1e38, 1e39, 1e300, -1e300, 0.9, 2.5];
    let others = [
        json!(null), json!(true), json!(false), json!(""), json!("gelu"), json!("linear"), json!("gated-silu"), json!([]),
        json!([0]), json!({}), json!({"rope_type": "linear", "factor": 1e30}), json!([-1, 1e300]), json!(u64::MAX),
        json!(["full_attention", "sliding_attention"]), json!("sliding_attention"), json!([[1]]),
    ];
    numbers.iter().map(|n| json!(n)).chain(floats.iter().map(|x| json!(x))).chain(others).collect()
}

/// Paths of all keys, those inside of objects after them.
fn keys(json: &Value, path: &str, found: &mut Vec<String>) {
    for (key, value) in json.as_object().into_iter().flatten() {
        found.push(format!("{path}/{key}"));
        keys(value, &format!("{path}/{key}"), found);
    }
}

/// A byte for the family, then three for each edit: two for the key and one for the value.
pub fn run(data: &[u8]) {
    let Some((family, edits)) = data.split_first() else { return };
    let name = FAMILIES[usize::from(*family) % FAMILIES.len()];
    let text = fs::read(fixture(name).join("config.json")).unwrap_or_else(|_| b"{}".to_vec());
    let mut config: Value = serde_json::from_slice(&text).expect("a fixture");
    let values = values();
    for edit in edits.chunks_exact(3).take(8) {
        let mut known = Vec::new();
        keys(&config, "", &mut known);
        known.extend(["/partial_rotary_factor", "/rope_theta", "/n_head", "/sliding_window", "/head_dim"].map(String::from));
        let key = &known[usize::from(u16::from_le_bytes([edit[0], edit[1]])) % known.len()];
        let (inside, last) = key.rsplit_once('/').expect("a path");
        if let Some(object) = config.pointer_mut(inside).and_then(Value::as_object_mut) {
            object.insert(last.to_owned(), values[usize::from(edit[2]) % values.len()].clone());
        }
    }
    let folder = linked(name);
    replaced(&folder, "config.json", config.to_string().as_bytes());
    let Ok(mut model) = import(&folder) else { return };
    if graph::passes::run(&mut model.graph).is_err() {
        return;
    }
    for (i, format) in FORMATS.iter().enumerate() {
        let mut model = model.clone();
        let dir = folder.join(format!("out-{i}"));
        fs::create_dir(&dir).expect("made");
        if format.prepare(&mut model).is_ok() && format.check(&model).is_ok() {
            let _ = format.write(&model, &dir);
        }
    }
}

/// No edit, and one for each value.
pub fn seeds() -> Vec<Vec<u8>> {
    (0..FAMILIES.len() as u8).flat_map(|family| (0..values().len() as u8).map(move |v| vec![family, v * 5, 0, v])).collect()
}
