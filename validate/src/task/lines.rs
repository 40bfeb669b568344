//! Samples of a file or a pipe, a line at a time.

use std::io::{self, BufRead, Read};
use std::path::Path;

use converters::limits::LINE_BYTES;
use frontend::Asked;
use serde::Deserialize;

/// What a line says.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Line {
    /// A text, or the path of a clip or an image.
    pub input: String,
    /// What is asked of it: of the encoder where that reads prompts, else what the decoder is fed first.
    pub prompt: Option<String>,
    /// What should be said of it, where that is known.
    pub target: Option<String>,
}

/// Lines of at most [`LINE_BYTES`], read one after the other.
pub struct Lines<R> {
    reader: R,
    is_json: bool,
    raw: Vec<u8>,
    number: usize,
    is_rest: bool,
}

impl Line {
    /// As a front end takes it that reads prompts, or that reads none.
    pub fn asked(&self, reads_prompts: bool) -> Asked<'_> {
        Asked { said: &self.input, prompt: self.prompt.as_deref().filter(|_| reads_prompts) }
    }
}

impl<R: BufRead> Lines<R> {
    /// JSON lines `{"input": …, "target": …}` when the file's name ends in `.jsonl`, else one input a line.
    pub fn of_file(file: &Path, reader: R) -> Lines<R> {
        Lines { is_json: file.extension().is_some_and(|e| e == "jsonl"), ..Lines::of_texts(reader) }
    }

    /// One input a line.
    pub fn of_texts(reader: R) -> Lines<R> {
        Lines { reader, is_json: false, raw: Vec::new(), number: 0, is_rest: false }
    }

    /// Takes the next line, or more of one that is too long; `false` at the end.
    pub fn advance(&mut self) -> io::Result<bool> {
        self.is_rest = self.is_too_long();
        self.raw.clear();
        let read = self.reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut self.raw)?;
        self.number += usize::from(read > 0 && !self.is_rest);
        Ok(read > 0)
    }

    /// The bytes at hand, with the end of the line.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// From 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Whether what is at hand goes on a line that was too long.
    pub fn is_rest(&self) -> bool {
        self.is_rest
    }

    fn is_too_long(&self) -> bool {
        self.raw.len() as u64 == LINE_BYTES && self.raw.last() != Some(&b'\n')
    }

    /// What the line at hand says; `None` when it is empty. Errors: too long, not UTF-8, not the expected JSON, in words.
    pub fn line(&self) -> Result<Option<Line>, String> {
        if self.is_too_long() {
            return Err(format!("expected a line of at most {LINE_BYTES} bytes, found a longer one"));
        }
        let line = std::str::from_utf8(&self.raw).map_err(|e| format!("expected UTF-8: {e}"))?.trim();
        match (line.is_empty(), self.is_json) {
            (true, _) => Ok(None),
            (false, true) => serde_json::from_str(line)
                .map(Some)
                .map_err(|e| format!("expected {{\"input\": …, \"target\": …}}: {e}")),
            (false, false) => Ok(Some(Line { input: line.to_owned(), prompt: None, target: None })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_one_line_and_the_next_has_its_number() {
        let long = "a".repeat(2 * LINE_BYTES as usize + 5);
        let text = format!("one\n{long}\n\nfour");
        let mut lines = Lines::of_texts(text.as_bytes());
        let mut found = Vec::new();
        while lines.advance().expect("memory") {
            if !lines.is_rest() {
                found.push((lines.number(), lines.line().map(|line| line.map(|line| line.input))));
            }
        }
        assert_eq!(found[0], (1, Ok(Some("one".to_owned()))));
        assert!(matches!(&found[1], (2, Err(why)) if why.contains("found a longer one")));
        assert_eq!(found[2..], [(3, Ok(None)), (4, Ok(Some("four".to_owned())))]);
    }
}
