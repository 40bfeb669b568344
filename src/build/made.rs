//! The machine and the call, as a report tells them.

use std::env::{self, consts};
use std::path::Path;
use std::thread;

use validate::bench::machine;
use validate::report::Made;

/// Of this process. The program is named without its folder.
pub fn made() -> Made {
    let mut command: Vec<String> = env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(program) = command.first_mut() {
        *program = Path::new(&*program).file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
    }
    Made {
        command,
        processor: machine::processor().unwrap_or_default(),
        threads: thread::available_parallelism().map_or(1, usize::from) as u64,
        system: format!("{} {}", consts::OS, consts::ARCH),
        kernel: graph::eval::kernel().to_owned(),
    }
}
