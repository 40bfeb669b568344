//! What is printed: data on stdout, and nothing that a terminal would obey.

use std::borrow::Cow;
use std::io::{self, Write};

/// A text as a terminal shows it: what would move its cursor, colour it or turn the direction of what follows is spelled out.
/// Lines stay lines.
///
/// Names in files from elsewhere may hold anything (CWE-150).
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let spelled = text.chars().map(|c| if is_obeyed(c) { format!("\\u{{{:x}}}", u32::from(c)) } else { c.to_string() });
    Cow::Owned(spelled.collect())
}

/// The same of something that is to stand in one line.
pub fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

fn is_obeyed(c: char) -> bool {
    let turns_direction = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c != '\n' && c != '\t' && c.is_control() || turns_direction
}

/// Writes a text to stdout. A reader that has seen enough and closed it is no error.
pub fn print(text: &str) -> io::Result<()> {
    quietly(io::stdout().lock().write_all(text.as_bytes()))
}

/// The same for output that goes on: whether anybody still reads it.
pub fn is_read(text: &str) -> io::Result<bool> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

fn quietly(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_spelled_out() {
        assert_eq!(printable("a\u{1b}[2Jb\r\u{9b}31m\u{202e}c\n\td"), "a\\u{1b}[2Jb\\u{d}\\u{9b}31m\\u{202e}c\n\td");
        assert_eq!(one_line("a\nb\u{7}"), "a\\nb\\u{7}");
        assert!(matches!(printable("ˈɹɛd élan 日本\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_closed_pipe_is_quiet_and_a_full_disk_is_not() {
        assert!(quietly(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(quietly(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
