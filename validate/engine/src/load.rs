//! Whether other programs leave processors idle, so that threads that wait by spinning find one each.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// The kernel counts in hundredths of a second.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What others did until so long ago may be over.
const LONG_AGO: Duration = Duration::from_millis(500);
/// Share of a processor that others may take of one that is counted on.
const BEARABLE: f64 = 0.25;

/// Ticks since the machine started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ticks {
    /// Of all processors, idle ones included.
    all: u64,
    /// In which something ran, or another machine on the same host.
    busy: u64,
    /// In which this process did.
    own: u64,
    processors: usize,
}

impl Ticks {
    /// `None` where the system does not say.
    fn now() -> Option<Ticks> {
        let read = |file| std::fs::read_to_string(file).ok();
        Ticks::parse(&read("/proc/stat")?, &read("/proc/self/stat")?)
    }

    /// From `/proc/stat` and `/proc/self/stat` (proc(5)).
    fn parse(stat: &str, own: &str) -> Option<Ticks> {
        let first = stat.lines().next()?.strip_prefix("cpu ")?;
        let counts: Vec<u64> = first.split_whitespace().map_while(|word| word.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted as users too.
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = counts[..] else { return None };
        let busy = user + nice + system + irq + softirq + steal;
        // The name of the program, in parentheses, may hold anything.
        let fields: Vec<&str> = own.rsplit_once(')')?.1.split_whitespace().collect();
        let [utime, stime] = [11, 12].map(|i| fields.get(i).and_then(|word| word.parse::<u64>().ok()));
        let processors = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
        Some(Ticks { all: busy + idle + iowait, busy, own: utime? + stime?, processors })
    }

    /// Processors that others left alone since `before`; `None` when too little has passed.
    fn left_since(&self, before: &Ticks) -> Option<f64> {
        let passed = |of: fn(&Ticks) -> u64| of(self).saturating_sub(of(before)) as f64;
        let (all, others) = (passed(|t| t.all), passed(|t| t.busy) - passed(|t| t.own));
        (all > 0.0).then(|| self.processors as f64 * (1.0 - others.max(0.0) / all))
    }
}

/// Threads of the whole machine that would run now: the fewest of a few looks, since many run for a moment only.
fn runnable() -> Option<usize> {
    let look = |i| {
        if i > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        runnable_of(&std::fs::read_to_string("/proc/loadavg").ok()?)
    };
    (0..4).filter_map(look).min()
}

/// From `/proc/loadavg` (proc(5)).
fn runnable_of(loadavg: &str) -> Option<usize> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.0.parse().ok()
}

/// The other programs of the machine.
pub(crate) struct Others {
    last: RefCell<Option<(Instant, Ticks)>>,
    left: Cell<f64>,
}

impl Others {
    pub(crate) fn new() -> Others {
        let others = Others { last: RefCell::new(None), left: Cell::new(0.0) };
        others.look();
        others
    }

    /// How many of `processors` they leave alone, at least one; one where the system does not say.
    pub(crate) fn leave_of(&self, processors: usize) -> usize {
        self.look();
        ((self.left.get() + BEARABLE) as usize).clamp(1, processors.max(1))
    }

    /// What they took since the last look tells what they will take; where that is long ago, those count that would run now.
    fn look(&self) {
        let mut last = self.last.borrow_mut();
        let passed = last.map(|(at, _)| at.elapsed());
        if passed.is_some_and(|passed| passed < LOOK_EVERY) {
            return;
        }
        let Some(now) = Ticks::now() else { return };
        let left = match *last {
            Some((_, before)) if passed.is_some_and(|passed| passed < LONG_AGO) => now.left_since(&before),
            _ => runnable().map(|runnable| {
                // This thread is one of them.
                now.processors.saturating_sub(runnable.saturating_sub(1)) as f64
            }),
        };
        self.left.set(left.unwrap_or(0.0));
        *last = Some((Instant::now(), now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "cpu  100 10 50 800 20 5 5 10 0 0\ncpu0 50 5 25 400 10 2 3 5 0 0\ncpu1 50 5 25 400 10 3 2 5 0 0\nintr 7\n";
    const OWN: &str = "42 (a ) b) R 1 42 42 0 -1 4194304 100 0 0 0 60 15 0 0 20 0 3 0 5 9 9";

    #[test]
    fn ticks_are_read_past_a_name_with_parentheses() {
        let expected = Ticks { all: 1000, busy: 180, own: 75, processors: 2 };
        assert_eq!(Ticks::parse(STAT, OWN), Some(expected));
        assert_eq!(Ticks::parse("cpu  1 2", OWN), None);
        assert_eq!(Ticks::parse(STAT, "42 (short) R 1"), None);
    }

    #[test]
    fn threads_that_would_run_are_read() {
        assert_eq!(runnable_of("0.20 0.18 0.12 3/80 11206\n"), Some(3));
        assert_eq!(runnable_of("0.20 0.18"), None);
    }

    #[test]
    fn what_this_process_does_itself_is_left_to_it() {
        let before = Ticks { all: 1000, busy: 180, own: 75, processors: 2 };
        let after = |busy: u64, own: u64| Ticks { all: 1200, busy: 180 + busy, own: 75 + own, processors: 2 };
        assert_eq!(after(200, 200).left_since(&before), Some(2.0));
        assert_eq!(after(200, 100).left_since(&before), Some(1.0));
        assert_eq!(after(0, 0).left_since(&before), Some(2.0));
        assert_eq!(before.left_since(&before), None);
    }
}
