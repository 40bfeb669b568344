//! Settings of a front end, every one of which is read, known to be without effect, or an error.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde_json::Value;

use checkpoint::json::Unique;
use checkpoint::names::{PREPROCESSOR_CONFIG, PROCESSOR_CONFIG};
use checkpoint::{CheckpointError, Files};

/// A JSON object whose keys are taken out as they are read. A key at null counts as absent.
///
/// A value that is not as expected is kept for [`Keys::finish`], and its default is read in its place, so that all are told
/// at once.
pub(crate) struct Keys {
    file: PathBuf,
    left: BTreeMap<String, Value>,
    wrong: Vec<String>,
}

impl Keys {
    /// The object `inside` of processor_config.json, else preprocessor_config.json, if there.
    pub(crate) fn open(files: &Files, inside: &str) -> Result<Option<Keys>, CheckpointError> {
        if let Some(Unique(entries)) = files.json::<Unique<Value>>(PROCESSOR_CONFIG)? {
            let nested = entries.into_iter().find(|(key, _)| key == inside);
            if let Some((_, Value::Object(entries))) = nested {
                return Ok(Some(Keys::new(files.path(PROCESSOR_CONFIG), entries.into_iter().collect())));
            }
        }
        let found = files.json::<Unique<Value>>(PREPROCESSOR_CONFIG)?;
        Ok(found.map(|Unique(entries)| Keys::new(files.path(PREPROCESSOR_CONFIG), entries)))
    }

    /// Of no file: all is default.
    pub(crate) fn defaults(files: &Files) -> Keys {
        Keys::new(files.path(PREPROCESSOR_CONFIG), Vec::new())
    }

    fn new(file: PathBuf, entries: Vec<(String, Value)>) -> Keys {
        let left = entries.into_iter().filter(|(_, value)| !value.is_null()).collect();
        Keys { file, left, wrong: Vec::new() }
    }

    /// Takes a key out.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.left.remove(key)
    }

    /// Records a value that is not as expected.
    pub(crate) fn wrong(&mut self, key: &str, expected: &str, found: &Value) {
        self.wrong.push(format!("{key} = {found}, expected {expected}"));
    }

    /// A key as `read` has it, else `default`.
    pub(crate) fn read<T>(
        &mut self,
        key: &str,
        default: T,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> T {
        let Some(value) = self.take(key) else { return default };
        read(&value).unwrap_or_else(|| {
            self.wrong(key, expected, &value);
            default
        })
    }

    pub(crate) fn number(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.read(key, default, &expected, |value| value.as_u64().filter(|n| range.contains(n)))
    }

    pub(crate) fn float(&mut self, key: &str, default: f32) -> f32 {
        self.read(key, default, "a number", |value| value.as_f64().map(|x| x as f32).filter(|x| x.is_finite()))
    }

    pub(crate) fn bool(&mut self, key: &str, default: bool) -> bool {
        self.read(key, default, "true or false", Value::as_bool)
    }

    /// A key that is supported at one value; numbers are compared as numbers. `it`: what happens at another.
    pub(crate) fn only(&mut self, key: &str, expected: impl Into<Value>, it: &str) {
        let (Some(found), expected) = (self.take(key), expected.into()) else { return };
        if found != expected && !(found.is_number() && found.as_f64() == expected.as_f64()) {
            self.wrong(key, &format!("{expected}; {it}"), &found);
        }
    }

    pub(crate) fn ignore(&mut self, keys: &[&str]) {
        keys.iter().for_each(|key| drop(self.take(key)));
    }

    /// The error of what is wrong so far, whatever keys are left.
    pub(crate) fn finish_alone(mut self) -> CheckpointError {
        self.left.clear();
        CheckpointError::malformed(&self.file, self.wrong.join("; "))
    }

    /// Errors: values that are not as expected, and the keys that nothing read. `changes`: what those may change.
    pub(crate) fn finish(mut self, changes: &str) -> Result<(), CheckpointError> {
        if !self.left.is_empty() {
            let left: Vec<&str> = self.left.keys().map(String::as_str).collect();
            self.wrong.push(format!("not known, may change the {changes}: {}", left.join(", ")));
        }
        match self.wrong.is_empty() {
            true => Ok(()),
            false => Err(CheckpointError::malformed(&self.file, self.wrong.join("; "))),
        }
    }
}
