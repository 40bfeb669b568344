//! Processes of others' programs. Each leads a group, works in an empty folder and is never waited for without end.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::environments::variable;
use super::interface::Options;

/// Until the first answer: Python imports torch, and a model is read and compiled, from a disk that others use too.
const START: Duration = Duration::from_secs(30 * 60);
/// Of each later one: a simulator takes seconds for a step, and a call may be a batch of whole targets.
const ANSWER: Duration = Duration::from_secs(2 * 60 * 60);
/// Of pip: 20 MB over a slow line.
const FETCH: Duration = Duration::from_secs(30 * 60);
/// Seconds that stand in place of the three.
pub(super) const SECONDS: &str = "TREFOIL_ENGINE_SECONDS";
/// How often it is looked whether a child that says nothing still lives: one of its own children may hold its pipes.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// For what is still in a pipe, or for a status, when a child has ended.
pub(super) const REST: Duration = Duration::from_millis(500);
/// A line of a child's own words is not longer.
const LINE_BYTES: u64 = 1 << 20;
/// Lines of the child's own words that an error shows.
const LAST_LINES: usize = 6;
/// Names a file to which everything that children say is appended.
const LOG: &str = "TREFOIL_LOG";

/// How long children may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) start: Duration,
    pub(super) answer: Duration,
    pub(super) fetch: Duration,
}

impl Patience {
    /// As the options say, else as `TREFOIL_ENGINE_SECONDS` does.
    pub(super) fn of(options: &Options) -> Result<Patience, String> {
        let one = match (options.patience, std::env::var_os(SECONDS).filter(|text| !text.is_empty())) {
            (Some(limit), _) => Some(limit),
            (None, None) => None,
            (None, Some(text)) => {
                let text = text.to_string_lossy();
                let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
                let expected = || format!("{SECONDS}: expected whole seconds above 0, found {text:?}");
                Some(Duration::from_secs(seconds.ok_or_else(expected)?))
            }
        };
        let or = |limit: Duration| one.unwrap_or(limit);
        Ok(Patience { start: or(START), answer: or(ANSWER), fetch: or(FETCH) })
    }
}

/// What is ended when this process is interrupted.
static LIVE: Mutex<Live> = Mutex::new(Live { closed: false, children: Vec::new() });

struct Live {
    /// Nothing starts any more.
    closed: bool,
    /// Leaders of groups, none of them waited for yet, with their folders.
    children: Vec<(u32, PathBuf)>,
}

fn live() -> MutexGuard<'static, Live> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every child with all that it has started, and removes their folders. For a process that is about to end: none
/// starts afterwards, and calls that wait for one do not come back, so that nothing is made of its end.
pub fn end_children() {
    // Long enough for processes to be gone that have been killed, if one of them still writes.
    const TRIES: usize = 20;
    let children = {
        let mut live = live();
        live.closed = true;
        live.children.iter().for_each(|(leader, _)| kill_group(*leader));
        live.children.clone()
    };
    for _ in 0..TRIES {
        children.iter().for_each(|(_, home)| drop(fs::remove_dir_all(home)));
        if children.iter().all(|(_, home)| !home.exists()) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns unless this process is ending.
fn unless_closed(live: MutexGuard<'_, Live>) -> MutexGuard<'_, Live> {
    if live.closed {
        drop(live);
        loop {
            thread::park();
        }
    }
    live
}

#[cfg(unix)]
fn kill_group(leader: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(leader) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        // It may have ended already.
        let _ = kill_process_group(leader, Signal::KILL);
    }
}

#[cfg(not(unix))]
fn kill_group(_: u32) {}

/// A process, which ends with this.
pub(super) struct Child {
    child: std::process::Child,
    words: Arc<Mutex<VecDeque<String>>>,
    /// Says nothing, and is closed when the child has said all.
    heard: Receiver<()>,
    /// Whether it has been waited for.
    gone: bool,
    /// Where it works, and where its temporary files lie. Removed after it has ended.
    _home: TempDir,
}

impl Child {
    /// Starts a program, given by an absolute path, with its standard error heard here. `called`: its name in the log.
    pub(super) fn spawn(called: &str, command: &mut Command) -> io::Result<Child> {
        let log = log()?;
        let home = tempfile::Builder::new().prefix("trefoil-").tempdir()?;
        command.current_dir(home.path()).stderr(Stdio::piped());
        command.envs(["TMPDIR", "TMP", "TEMP"].map(|name| (name, home.path())));
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        log::info!("start {called}: {}", shown(command));
        let mut child = {
            let mut live = unless_closed(live());
            let child = command.spawn()?;
            live.children.push((child.id(), home.path().to_owned()));
            child
        };
        let words = Arc::new(Mutex::new(VecDeque::new()));
        let stderr = child.stderr.take().expect("piped");
        let (done, heard) = channel();
        let (into, called) = (words.clone(), format!("[{called} {}] ", child.id()));
        thread::spawn(move || {
            listen(BufReader::new(stderr), &into, log, &called);
            drop(done);
        });
        Ok(Child { child, words, heard, gone: false, _home: home })
    }

    /// Its number.
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Its other ends of pipes, once.
    pub(super) fn pipes(&mut self) -> (Option<std::process::ChildStdin>, Option<std::process::ChildStdout>) {
        (self.child.stdin.take(), self.child.stdout.take())
    }

    /// Without taking its number from it.
    fn wait_for_the_kill(&self) {
        #[cfg(unix)]
        {
            use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
            let _ = waitid(WaitId::Pid(Pid::from_child(&self.child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        }
    }

    /// How it ended, as `ended with signal 6`; `None` while it lives. Its group can still be ended afterwards.
    #[cfg(unix)]
    pub(super) fn ended(&mut self) -> Option<Ended> {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        // Its number stays its own until it is waited for.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(Pid::from_child(&self.child)), options).ok()??;
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(Ended::Code(code)),
            (None, Some(signal)) => Some(Ended::Signal(signal)),
            (None, None) => None,
        }
    }

    /// The same.
    #[cfg(not(unix))]
    pub(super) fn ended(&mut self) -> Option<Ended> {
        let status = self.child.try_wait().ok()??;
        Some(Ended::Code(status.code().unwrap_or(-1)))
    }

    /// The same for a child that seems to have ended.
    pub(super) fn ended_soon(&mut self) -> Option<Ended> {
        let start = Instant::now();
        loop {
            match self.ended() {
                None if start.elapsed() < REST => thread::sleep(Duration::from_millis(5)),
                found => return found,
            }
        }
    }

    /// Waits until it ends. Errors: a sentence when it takes longer.
    pub(super) fn wait(&mut self, limit: Duration) -> Result<Ended, String> {
        let start = Instant::now();
        loop {
            match self.ended() {
                Some(ended) => return Ok(ended),
                None if start.elapsed() >= limit => return Err(too_long(limit)),
                None => thread::sleep(LOOK / 4),
            }
        }
    }

    /// Ends it with all that it has started, and returns its last words.
    pub(super) fn end(&mut self) -> Vec<String> {
        // What is made of an interrupted call would be told as a fault of the engine.
        let live_now = unless_closed(live());
        if !self.gone {
            kill_group(self.child.id());
            // It may have ended already, and there is nothing else to be done with it.
            let _ = self.child.kill();
            drop(live_now);
            self.wait_for_the_kill();
            // Its number may be another's once it has been waited for, so that nobody may kill it meanwhile.
            let mut live = unless_closed(live());
            let _ = self.child.wait();
            live.children.retain(|(leader, _)| *leader != self.child.id());
            self.gone = true;
        }
        // A process that has left the group may hold the pipe.
        let _: Result<(), RecvTimeoutError> = self.heard.recv_timeout(REST);
        self.words.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.gone {
            self.end();
        }
    }
}

/// A command line, programs that are arguments left out.
fn shown(command: &Command) -> String {
    const LONG: usize = 400;
    let words = [command.get_program()].into_iter().chain(command.get_args()).map(|word| word.to_string_lossy());
    let short = |word: std::borrow::Cow<'_, str>| match word.len() > LONG || word.contains('\n') {
        true => format!("<{} bytes>", word.len()),
        false => word.into_owned(),
    };
    words.map(short).collect::<Vec<_>>().join(" ")
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    Code(i32),
    Signal(i32),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Code(code) => write!(f, "ended with exit code {code}"),
            Ended::Signal(signal) => write!(f, "ended with signal {signal}"),
        }
    }
}

pub(super) fn too_long(limit: Duration) -> String {
    format!("no answer in {} s; {SECONDS} allows more", limit.as_secs_f64())
}

fn log() -> io::Result<Option<&'static Mutex<File>>> {
    static OPENED: OnceLock<Option<Mutex<File>>> = OnceLock::new();
    if let Some(opened) = OPENED.get() {
        return Ok(opened.as_ref());
    }
    let file = match variable(LOG) {
        None => None,
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            Some(file.map_err(|e| io::Error::new(e.kind(), format!("{LOG} is {}: {e}", path.display())))?)
        }
    };
    Ok(OPENED.get_or_init(|| file.map(Mutex::new)).as_ref())
}

fn listen(mut stderr: impl BufRead, words: &Mutex<VecDeque<String>>, log: Option<&Mutex<File>>, called: &str) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match stderr.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if text.is_empty() {
                    continue;
                }
                log::debug!("{called}{text}");
                if let Some(log) = log {
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    // A log that cannot be written does not stop the work.
                    let _ = log.write_all(format!("{called}{text}\n").as_bytes());
                }
                let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
                words.push_back(text);
                while words.len() > LAST_LINES {
                    words.pop_front();
                }
            }
        }
    }
}
