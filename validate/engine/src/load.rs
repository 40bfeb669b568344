//! Whether other programs leave processors idle, so that threads that wait by spinning find one each.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// The kernel counts in hundredths of a second.
const LOOK_EVERY: Duration = Duration::from_millis(100);
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

/// Threads of the whole machine that would run now, from `/proc/loadavg` (proc(5)).
fn runnable(loadavg: &str) -> Option<usize> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.0.parse().ok()
}

/// The other programs of the machine.
pub(crate) struct Others {
    last: RefCell<Option<(Instant, Ticks)>>,
    left: Cell<f64>,
}

impl Others {
    /// Before anything was measured, those count that would run at this moment.
    pub(crate) fn new() -> Others {
        let now = Ticks::now();
        let runnable = std::fs::read_to_string("/proc/loadavg").ok().and_then(|text| runnable(&text));
        let left = match (now, runnable) {
            // This thread is one of them.
            (Some(ticks), Some(runnable)) => ticks.processors.saturating_sub(runnable.saturating_sub(1)),
            _ => 0,
        };
        Others { last: RefCell::new(now.map(|ticks| (Instant::now(), ticks))), left: Cell::new(left as f64) }
    }

    /// How many of `processors` they left alone in the time since this was asked before, at least one; one where the system does
    /// not say.
    pub(crate) fn leave_of(&self, processors: usize) -> usize {
        let mut last = self.last.borrow_mut();
        if let Some((at, before)) = *last
            && at.elapsed() >= LOOK_EVERY
            && let Some(now) = Ticks::now()
        {
            if let Some(left) = now.left_since(&before) {
                self.left.set(left);
            }
            *last = Some((Instant::now(), now));
        }
        ((self.left.get() + BEARABLE) as usize).clamp(1, processors.max(1))
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
        assert_eq!(runnable("0.20 0.18 0.12 3/80 11206\n"), Some(3));
        assert_eq!(runnable("0.20 0.18"), None);
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
