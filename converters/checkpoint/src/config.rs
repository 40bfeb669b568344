//! config.json with an account of what was read.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Mutex;

use serde_json::{Map, Value};

use crate::error::Problem;
use crate::limits::CONFIG_DEPTH;

/// No dimension of a model is longer, so a product of two fits.
pub(crate) const LIMIT: usize = 1 << 31;

/// The file that it is read from.
const FILE: &str = "config.json";

/// A dimension and its name, so that a shape can be told in the words of the config.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Its length, at most 2^31.
    pub len: usize,
    /// As `d_model`, `num_heads·d_kv`.
    pub name: &'static str,
}

impl Size {
    /// The longest.
    pub const MOST: usize = LIMIT;
}

/// Typed access to config.json.
///
/// Every key read is remembered, and so is every problem: a getter that cannot answer notes why and returns a stand-in,
/// so that an importer needs no `?` and all problems come at once from `Checkpoint::config_fits` or `Checkpoint::finish`.
#[derive(Debug)]
pub struct Config {
    json: Value,
    /// Of a nested object: where it stands, as `decoder.`.
    path: String,
    /// Of the whole file: an object inside has a word of its own.
    model_type: Option<String>,
    sections: BTreeMap<String, Config>,
    account: Mutex<Account>,
}

#[derive(Debug, Default)]
struct Account {
    read: BTreeSet<String>,
    /// Nested objects whose keys are accounted for, too.
    opened: BTreeSet<String>,
    problems: Vec<Problem>,
    /// The same, to be looked up.
    noted: HashSet<Problem>,
}

impl Config {
    pub(crate) fn new(entries: Vec<(String, Value)>) -> Config {
        let json = Value::Object(Map::from_iter(entries));
        let model_type = json.get("model_type").and_then(Value::as_str).map(str::to_owned);
        Config::nested(json, String::new(), model_type, 0)
    }

    /// Each level copies what is inside of it, so that none is opened that nobody asks for.
    fn nested(json: Value, path: String, model_type: Option<String>, depth: usize) -> Config {
        let is_opened = |value: &Value| value.is_object() && depth < CONFIG_DEPTH;
        let objects = json.as_object().into_iter().flatten().filter(|(_, value)| is_opened(value));
        let section = |(key, value): (&String, &Value)| {
            (key.clone(), Config::nested(value.clone(), format!("{path}{key}."), model_type.clone(), depth + 1))
        };
        let sections = objects.map(section).collect();
        Config { json, path, model_type, sections, account: Mutex::default() }
    }

    /// Takes a word for the family where the file has none.
    pub(crate) fn call(&mut self, model_type: &str) {
        self.model_type = Some(model_type.to_owned());
        self.sections.values_mut().for_each(|section| section.call(model_type));
    }

    /// A nested object, whose keys must be read or ignored like those of the whole; missing is a problem.
    pub fn section(&self, key: &str) -> Option<&Config> {
        match (self.value(key), self.sections.get(key)) {
            (Some(_), Some(section)) => {
                self.account().opened.insert(key.to_owned());
                return Some(section);
            }
            (Some(found), None) => self.wrong_kind(key, "an object", found),
            (None, _) => self.note(Problem::MissingKey { file: FILE, key: self.place(key) }),
        }
        None
    }

    /// The same, if it is there.
    pub fn section_if_given(&self, key: &str) -> Option<&Config> {
        self.value(key).and_then(|_| self.section(key))
    }

    /// A key with the objects around it.
    fn place(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// The whole object.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The family.
    pub fn model_type(&self) -> Option<&str> {
        self.ignore(&["model_type"]);
        self.model_type.as_deref()
    }

    /// A number from 1 to 2^31; missing is a problem.
    pub fn usize(&self, key: &str) -> usize {
        match self.value(key) {
            Some(value) => self.count(key, value),
            None => {
                self.note(Problem::MissingKey { file: FILE, key: self.place(key) });
                1
            }
        }
    }

    /// A number from 1 to 2^31.
    pub fn usize_or(&self, key: &str, default: usize) -> usize {
        self.value(key).map_or(default, |value| self.count(key, value))
    }

    /// A number from 1 to 2^31, if given.
    pub fn usize_if_given(&self, key: &str) -> Option<usize> {
        self.value(key).map(|value| self.count(key, value))
    }

    /// A dimension; missing is a problem.
    pub fn size(&self, key: &'static str) -> Size {
        Size { len: self.usize(key), name: key }
    }

    /// A length of both axes of an image, or height and width.
    pub fn lengths_or(&self, key: &str, default: usize) -> [usize; 2] {
        let Some(value) = self.value(key) else { return [default; 2] };
        let found = match value.as_array().map(Vec::as_slice) {
            None => count(value).map(|n| [n; 2]),
            Some([height, width]) => count(height).zip(count(width)).map(|(height, width)| [height, width]),
            Some(_) => None,
        };
        found.unwrap_or_else(|| {
            self.wrong_kind(key, "a number from 1 to 2^31, or two of them", value);
            [default; 2]
        })
    }

    /// A list of numbers from 1 to 2^31.
    pub fn counts_or(&self, key: &str, default: &[usize]) -> Vec<usize> {
        self.list_or(key, default, "a list of numbers from 1 to 2^31", count)
    }

    /// A list of numbers from 0 to 2^31.
    pub fn numbers_or(&self, key: &str, default: &[usize]) -> Vec<usize> {
        self.list_or(key, default, "a list of numbers from 0 to 2^31", |value| match value.as_u64() {
            Some(0) => Some(0),
            _ => count(value),
        })
    }

    /// A list of `true` and `false`.
    pub fn bools_or(&self, key: &str, default: &[bool]) -> Vec<bool> {
        self.list_or(key, default, "a list of true and false", Value::as_bool)
    }

    fn list_or<T: Clone>(&self, key: &str, default: &[T], expected: &str, read: fn(&Value) -> Option<T>) -> Vec<T> {
        let found = |value: &Value| value.as_array()?.iter().map(read).collect::<Option<Vec<T>>>();
        self.typed(key, expected, found).unwrap_or_else(|| default.to_vec())
    }

    /// Numbers from 1 to 2^31, at least one of them; missing is a problem.
    pub fn counts(&self, key: &str) -> Vec<usize> {
        let Some(value) = self.value(key) else {
            self.note(Problem::MissingKey { file: FILE, key: self.place(key) });
            return vec![1];
        };
        let all = value.as_array().filter(|all| !all.is_empty());
        all.and_then(|all| all.iter().map(count).collect()).unwrap_or_else(|| {
            self.wrong_kind(key, "a list of numbers from 1 to 2^31", value);
            vec![1]
        })
    }

    /// A token id, if given.
    pub fn token(&self, key: &str) -> Option<usize> {
        let found = |value: &Value| value.as_u64().and_then(|id| usize::try_from(id).ok()).filter(|id| *id < LIMIT);
        self.typed(key, "a token id", found)
    }

    /// A float, rounded to f32 as the reference does.
    pub fn f32_or(&self, key: &str, default: f32) -> f32 {
        let found = |value: &Value| value.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
        self.typed(key, "a number", found).unwrap_or(default)
    }

    /// A float of which the reference computes with all bits of Python's.
    pub fn f64_or(&self, key: &str, default: f64) -> f64 {
        self.typed(key, "a number", Value::as_f64).unwrap_or(default)
    }

    /// `true` or `false`, if given.
    pub fn bool(&self, key: &str) -> Option<bool> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// `true` or `false`.
    pub fn bool_or(&self, key: &str, default: bool) -> bool {
        self.bool(key).unwrap_or(default)
    }

    /// A word, if given.
    pub fn str(&self, key: &str) -> Option<&str> {
        let value = self.value(key)?;
        if !value.is_string() {
            self.wrong_kind(key, "a string", value);
        }
        value.as_str()
    }

    /// A word.
    pub fn str_or<'c>(&'c self, key: &str, default: &'c str) -> &'c str {
        self.str(key).unwrap_or(default)
    }

    /// Keys without effect on what the model computes, whatever their value.
    pub fn ignore(&self, keys: &[&str]) {
        self.account().read.extend(keys.iter().map(|key| (*key).to_owned()));
    }

    /// A key without effect at one value, and unsupported at any other.
    pub fn only(&self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        if self.value(key).is_some_and(|found| *found != value) {
            self.unsupported(key, format!("only {value} is"));
        }
    }

    /// Notes that the value of a key changes the result and is not supported.
    pub fn unsupported(&self, key: &str, why: impl fmt::Display) {
        let value = self.json.get(key).map_or_else(|| "missing".to_owned(), shown);
        let architecture = self.architecture();
        self.note(Problem::Unsupported { file: FILE, key: self.place(key), value, architecture, why: why.to_string() });
    }

    pub(crate) fn architecture(&self) -> String {
        self.model_type.clone().unwrap_or_else(|| "this architecture".to_owned())
    }

    /// Problems noted so far, then the keys not read so far. A key at null counts as absent.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let account = self.account();
        let mut problems = account.problems.clone();
        let entries = self.json.as_object().into_iter().flatten();
        let unread = entries.filter(|(key, value)| !account.read.contains(*key) && !value.is_null());
        let unread: Vec<(String, String)> = unread.map(|(key, value)| (self.place(key), shown(value))).collect();
        let opened = account.opened.clone();
        drop(account);
        let architecture = self.architecture();
        problems.extend(unread.into_iter().map(|(key, value)| Problem::UnreadKey {
            file: FILE,
            key,
            value,
            architecture: architecture.clone(),
        }));
        problems.extend(opened.iter().flat_map(|key| self.sections[key].problems()));
        problems
    }

    /// Whether a value noted so far leaves shapes unknown.
    pub(crate) fn is_broken(&self) -> bool {
        let stops = |p: &Problem| matches!(p, Problem::MissingKey { .. } | Problem::WrongKind { .. });
        let account = self.account();
        account.problems.iter().any(stops) || account.opened.iter().any(|key| self.sections[key].is_broken())
    }

    fn account(&self) -> std::sync::MutexGuard<'_, Account> {
        self.account.lock().expect("no panic while holding the lock")
    }

    /// Notes a problem once.
    pub(crate) fn note(&self, problem: Problem) {
        let mut account = self.account();
        if account.noted.insert(problem.clone()) {
            account.problems.push(problem);
        }
    }

    pub(crate) fn wrong_kind(&self, key: &str, expected: &str, found: &Value) {
        let (key, expected, found) = (self.place(key), expected.to_owned(), shown(found));
        self.note(Problem::WrongKind { file: FILE, key, expected, found });
    }

    /// Marks a key as read; null counts as absent.
    fn value(&self, key: &str) -> Option<&Value> {
        self.account().read.insert(key.to_owned());
        self.json.get(key).filter(|value| !value.is_null())
    }

    fn count(&self, key: &str, value: &Value) -> usize {
        count(value).unwrap_or_else(|| {
            self.wrong_kind(key, COUNT, value);
            1
        })
    }

    fn typed<T>(&self, key: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let value = self.value(key)?;
        let found = read(value);
        if found.is_none() {
            self.wrong_kind(key, expected, value);
        }
        found
    }
}

pub(crate) const COUNT: &str = "a number from 1 to 2^31";

fn count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=LIMIT).contains(n))
}

/// A value as JSON, cut where it would fill the screen.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
