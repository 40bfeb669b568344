//! JSON objects that say a key once.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, Visitor};

use crate::error::CheckpointError;
use crate::limits;

/// A JSON file of at most [`limits::JSON_BYTES`]. Errors: what the parser says, with line and column.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<T, CheckpointError> {
    parse(&bytes(file)?).map_err(|message| CheckpointError::malformed(file, message))
}

/// The same, or `None` where no such file is.
pub fn read_if_there<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, CheckpointError> {
    match read(file) {
        Err(CheckpointError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// What is read is held once as it stands, and objects inside once more for each level that is opened.
const COPIES: u64 = 1 + limits::CONFIG_DEPTH as u64;

/// JSON from memory. Errors: what the parser says, with line and column.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    let parsed =
        limits::check_json(json, COPIES).and_then(|()| serde_json::from_slice(json).map_err(|e| e.to_string()));
    parsed.map_err(|message| format!("not the expected JSON: {message}"))
}

/// A file of at most [`limits::JSON_BYTES`].
pub fn bytes(file: &Path) -> Result<Vec<u8>, CheckpointError> {
    limits::read(file, limits::JSON_BYTES).map_err(CheckpointError::io(file))
}

/// Entries in the order of the file. A key that comes twice is an error: readers disagree on which one counts.
#[derive(Debug)]
pub struct Unique<V>(pub Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique<V>, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueVisitor<V> {
    type Value = Unique<V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<V>, A::Error> {
        let (mut entries, mut seen) = (Vec::new(), HashSet::new());
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format!("{key} comes twice")));
            }
            let value = map.next_value().map_err(|e| A::Error::custom(format!("{key}: {e}")))?;
            entries.push((key, value));
        }
        Ok(Unique(entries))
    }
}
