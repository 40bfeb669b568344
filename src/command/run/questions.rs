//! What a model is asked, one input after the other: of the arguments, of a file, or of stdin as it comes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};

use graph::Progress;
use validate::task::Lines;

use super::arguments::Run;
use super::error::RunError;
use crate::show::progress::Display;

/// One input.
pub struct Question {
    /// From 1: of the argument or the line.
    pub number: usize,
    /// As it was given; a sentence where the line is none that could be fed.
    pub said: Result<String, String>,
    /// What is asked of it, where its line says so or all are asked the same.
    pub prompt: Option<String>,
}

impl Question {
    fn of(number: usize, said: String) -> Question {
        Question { number, said: Ok(said), prompt: None }
    }
}

/// All inputs, in order.
pub struct Questions {
    from: From,
    /// Where relative paths of clips and images begin.
    pub dir: PathBuf,
    /// What is asked of inputs that have no prompt of their own.
    prompt: Option<String>,
}

enum From {
    Arguments(std::iter::Enumerate<std::vec::IntoIter<String>>),
    File(PathBuf, Lines<BufReader<File>>),
    Stdin(Lines<io::StdinLock<'static>>),
}

impl Questions {
    /// `prompt`: what is asked of inputs that have none of their own. Errors: the file cannot be opened.
    pub fn of(arguments: &Run, prompt: Option<String>, display: &Display) -> Result<Questions, RunError> {
        if let Some(file) = &arguments.file {
            let reader = BufReader::new(graph::open_file(file).map_err(RunError::io(file))?);
            let dir = file.parent().unwrap_or(Path::new("")).to_owned();
            return Ok(Questions { from: From::File(file.clone(), Lines::of_file(file, reader)), dir, prompt });
        }
        let from = match arguments.reads_stdin() {
            true => From::stdin(display),
            false => From::Arguments(arguments.inputs.clone().into_iter().enumerate()),
        };
        Ok(Questions { from, dir: PathBuf::new(), prompt })
    }
}

impl From {
    fn stdin(display: &Display) -> From {
        if io::stdin().is_terminal() {
            display.say("type the inputs, a line each; the end of the input (Ctrl-D) ends");
        }
        From::Stdin(Lines::of_texts(io::stdin().lock()))
    }
}

impl Iterator for Questions {
    type Item = Result<Question, RunError>;

    fn next(&mut self) -> Option<Result<Question, RunError>> {
        let next = match &mut self.from {
            From::Arguments(given) => given.next().map(|(at, said)| Ok(Question::of(at + 1, said))),
            From::File(file, lines) => of_lines(lines).map_err(RunError::io(file)).transpose(),
            From::Stdin(lines) => of_lines(lines).map_err(RunError::io(Path::new("stdin"))).transpose(),
        }?;
        Some(next.map(|question| Question { prompt: question.prompt.or_else(|| self.prompt.clone()), ..question }))
    }
}

fn of_lines<R: BufRead>(lines: &mut Lines<R>) -> io::Result<Option<Question>> {
    while lines.advance()? {
        if lines.is_rest() {
            continue;
        }
        let number = lines.number();
        return Ok(Some(match lines.line() {
            Ok(None) => Question::of(number, String::new()),
            Ok(Some(line)) => Question { prompt: line.prompt, ..Question::of(number, line.input) },
            Err(why) => Question { number, said: Err(why), prompt: None },
        }));
    }
    Ok(None)
}
