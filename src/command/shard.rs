//! Which part of the work is this machine's, where several share it.

use std::fmt;
use std::str::FromStr;

/// One of several parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    /// From 1.
    number: usize,
    of: usize,
}

impl Shard {
    /// Whether it has the piece at a place, from 0. Pieces go round, so that neighbours, which take about as long as each other, are dealt
    /// out evenly.
    pub fn has(self, place: usize) -> bool {
        place % self.of == self.number - 1
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let parts = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parts {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Shard { number, of }),
            _ => Err("expected a part as 1/3, from 1/3 to 3/3".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_numbered_from_one_and_have_every_piece_once() {
        for text in ["0/2", "3/2", "1/0", "1", "a/2", "1/2/3", "-1/2", ""] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
        for of in 1..6 {
            let all: Vec<Shard> = (1..=of).map(|i| format!("{i}/{of}").parse().expect("a part")).collect();
            for place in 0..12 {
                assert_eq!(all.iter().filter(|shard| shard.has(place)).count(), 1, "{place} of {of}");
            }
        }
    }
}
