//! How long a stage will still take, told steadily.

/// Before so many seconds nobody can say.
const FIRST_S: f64 = 3.0;
/// The share of the work that must be done first.
const FIRST_SHARE: f64 = 0.02;
/// What was told goes on counting down while the rate so far says the same within this share, and these seconds.
const TOLERANCE: f64 = 0.25;
const TOLERANCE_S: f64 = 3.0;
/// So many times the longest wait before is too long.
const OVERDUE: f64 = 1.5;

/// What was seen and told before.
#[derive(Default)]
pub struct Left {
    /// What was done when it last grew, and seconds from the stage's beginning to then.
    grown: (u64, f64),
    /// The longest that it took to grow.
    gap: f64,
    /// Seconds from the beginning, and the seconds that were then told to be left.
    told: Option<[f64; 2]>,
}

impl Left {
    /// Seconds that are left at the average rate so far: counted down from what was told before, until that is too far off.
    /// `None` while too little is done, and when all is.
    pub fn seconds(&mut self, elapsed: f64, done: u64, total: u64) -> Option<f64> {
        if done != self.grown.0 {
            self.gap = self.gap.max(elapsed - self.grown.1);
            self.grown = (done, elapsed);
        }
        if elapsed < FIRST_S || done == 0 || done >= total || (done as f64) < FIRST_SHARE * total as f64 {
            return None;
        }
        // Work comes in lumps: until the next one is overdue, its share of the time is no loss.
        let is_overdue = elapsed - self.grown.1 > OVERDUE * self.gap + TOLERANCE_S;
        let took = if is_overdue { elapsed } else { self.grown.1 };
        let estimate = took * (total - done) as f64 / done as f64 - (elapsed - took);
        let counted = self.told.map(|[at, left]| left - (elapsed - at));
        let near = counted.filter(|left| (left - estimate).abs() <= TOLERANCE * estimate + TOLERANCE_S);
        if near.is_none() {
            self.told = Some([elapsed, estimate]);
        }
        Some(near.unwrap_or(estimate).max(0.0))
    }
}

/// `40 s left`, `3 min left`, `1 h 20 min left`: as exact as anybody believes.
pub fn told(seconds: f64) -> String {
    let whole = seconds.ceil() as u64;
    match whole {
        0..90 => format!("{whole} s left"),
        90..5400 => format!("{} min left", whole.div_ceil(60)),
        _ => format!("{} h {} min left", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_count_down_although_work_comes_in_lumps() {
        let mut left = Left::default();
        // Ten units a second on average, done fifty at a time.
        let told: Vec<f64> = (5_u32..95)
            .filter_map(|second| left.seconds(f64::from(second), u64::from(second / 5 * 50), 1000))
            .collect();
        assert_eq!(told.len(), 90);
        assert!(told.windows(2).all(|pair| pair[1] <= pair[0]), "{told:?}");
    }

    #[test]
    fn a_rate_that_changes_is_followed() {
        let mut left = Left::default();
        assert_eq!(left.seconds(10.0, 500, 1000), Some(10.0));
        // Nothing more is done for a while.
        let later = left.seconds(40.0, 500, 1000).expect("much is done");
        assert_eq!(later, 40.0);
    }

    #[test]
    fn nothing_is_told_before_anything_is_known() {
        let mut left = Left::default();
        assert_eq!(left.seconds(2.9, 500, 1000), None);
        assert_eq!(left.seconds(10.0, 19, 1000), None);
        assert_eq!(left.seconds(10.0, 0, 1000), None);
        assert_eq!(left.seconds(10.0, 1000, 1000), None);
    }

    #[test]
    fn times_are_told_as_people_say_them() {
        let told = [0.2, 89.0, 90.0, 3599.0, 5400.0].map(told);
        assert_eq!(told, ["1 s left", "89 s left", "2 min left", "60 min left", "1 h 30 min left"]);
    }
}
