//! JSON objects that say a key once.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, Visitor};

use super::ImportError;

/// Longest JSON file read; the largest published index has 2 MB.
const LIMIT_BYTES: u64 = 100_000_000;

/// A JSON file of at most 100 MB. Errors: what the parser says, with line and column.
pub(crate) fn read<T: DeserializeOwned>(file: &Path) -> Result<T, ImportError> {
    parse(&bytes(file)?).map_err(|message| ImportError::malformed(file, message))
}

/// JSON from memory. Errors: what the parser says, with line and column.
pub(crate) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|e| format!("not the expected JSON: {e}"))
}

/// A file of at most 100 MB.
pub(crate) fn bytes(file: &Path) -> Result<Vec<u8>, ImportError> {
    let len = std::fs::metadata(file).map_err(ImportError::io(file))?.len();
    if len > LIMIT_BYTES {
        return Err(ImportError::malformed(file, format!("expected at most {LIMIT_BYTES} bytes, found {len}")));
    }
    let mut bytes = Vec::new();
    // A pipe has no length, so the limit holds here too.
    let reader = File::open(file).map_err(ImportError::io(file))?;
    reader.take(LIMIT_BYTES).read_to_end(&mut bytes).map_err(ImportError::io(file))?;
    Ok(bytes)
}

/// Entries in the order of the file. A key that comes twice is an error: readers disagree on which one counts.
pub(crate) struct Unique<V>(pub Vec<(String, V)>);

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
