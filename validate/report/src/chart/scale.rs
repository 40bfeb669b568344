//! From figures to places, and the marks between.

use crate::figures::three;

/// How figures become places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Equal steps for equal differences.
    Linear,
    /// Equal steps for equal ratios; what is not above 0 has no place.
    Log,
    /// Logarithmic away from 0 on both sides: `asinh`.
    Signed,
}

/// An axis.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    kind: Kind,
    /// As [`Kind`] bends them.
    bent: [f64; 2],
    /// Where they are drawn.
    drawn: [f64; 2],
}

impl Scale {
    /// Over what has a place among `values`, with a little room at both ends; over 1 when nothing has. `drawn`: from, to.
    pub fn over(kind: Kind, values: impl IntoIterator<Item = f64>, drawn: [f64; 2]) -> Scale {
        let bent = values.into_iter().filter_map(|value| kind.bent(value));
        let (low, high) = bent.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let bent = match kind {
            _ if low > high => [kind.bent(0.5).unwrap_or(0.0), kind.bent(2.0).unwrap_or(1.0)],
            Kind::Log => [low - room(low, high, 0.05), high + room(low, high, 0.05)],
            _ => [low - room(low, high, 1e-3 * low.abs()), high + room(low, high, 1e-3 * high.abs())],
        };
        Scale { kind, bent, drawn }
    }

    /// From 0 to the largest.
    pub fn from_zero(values: impl IntoIterator<Item = f64>, drawn: [f64; 2]) -> Scale {
        let largest = values.into_iter().filter(|value| value.is_finite()).fold(0.0, f64::max);
        Scale { kind: Kind::Linear, bent: [0.0, if largest > 0.0 { largest } else { 1.0 }], drawn }
    }

    /// Where a figure is; none for what has no place.
    pub fn at(&self, value: f64) -> Option<f64> {
        let ([low, high], [from, to]) = (self.bent, self.drawn);
        self.kind.bent(value).map(|bent| from + (bent - low) / (high - low) * (to - from))
    }

    /// About `count` round figures within, in order.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        let [low, high] = self.bent;
        let count = count.max(2);
        match self.kind {
            Kind::Linear => linear(low, high, count),
            Kind::Log => {
                let (first, last) = (low.floor() as i32, high.ceil() as i32);
                let all = |digits: &[f64]| {
                    let of =
                        |decade: i32| digits.iter().map(move |digit| digit * 10f64.powi(decade)).collect::<Vec<_>>();
                    let within = |tick: &f64| (low..=high).contains(&tick.log10());
                    (first..=last).flat_map(of).filter(within).collect::<Vec<f64>>()
                };
                let fine = all(&[1.0, 2.0, 5.0]);
                let ticks = if fine.len() <= count { fine } else { all(&[1.0]) };
                thinned(ticks, count)
            }
            Kind::Signed => {
                let decades = (0..12).map(|decade| 10f64.powi(decade));
                let all = decades.clone().rev().map(|x| -x).chain([0.0]).chain(decades);
                let within = |tick: &f64| (low..=high).contains(&tick.asinh());
                let ticks: Vec<f64> = all.filter(within).collect();
                // 0 stays whatever is left out.
                let zero = ticks.iter().position(|tick| *tick == 0.0).unwrap_or(0);
                let step = ticks.len().div_ceil(count).max(1);
                ticks
                    .into_iter()
                    .enumerate()
                    .filter(|(i, _)| i.abs_diff(zero).is_multiple_of(step))
                    .map(|(_, t)| t)
                    .collect()
            }
        }
    }
}

impl Kind {
    fn bent(self, value: f64) -> Option<f64> {
        let bent = match self {
            Kind::Linear => value,
            Kind::Log => value.log10(),
            Kind::Signed => value.asinh(),
        };
        bent.is_finite().then_some(bent)
    }
}

fn room(low: f64, high: f64, least: f64) -> f64 {
    ((high - low) * 0.06).max(least).max(1e-9)
}

fn linear(low: f64, high: f64, count: usize) -> Vec<f64> {
    // A few more rather than too few.
    let rough = (high - low) / count as f64 * 0.75;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough).unwrap_or(rough);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

fn thinned(ticks: Vec<f64>, count: usize) -> Vec<f64> {
    let step = ticks.len().div_ceil(count).max(1);
    ticks.into_iter().step_by(step).collect()
}

/// A tick as it is written: no more digits than it has.
pub fn tick(value: f64) -> String {
    let text = three(value);
    match text.split_once('e') {
        Some((digits, power)) => format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.')),
        None if text.contains('.') => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        None => text,
    }
}

/// A tick that is so many bytes.
pub fn tick_of_bytes(value: f64) -> String {
    let unit = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")].into_iter().find(|(unit, _)| value.abs() >= *unit);
    unit.map_or(format!("{} B", tick(value)), |(unit, name)| format!("{} {name}", tick(value / unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        let linear = Scale::over(Kind::Linear, [48.3, 55.9], [0.0, 100.0]);
        assert_eq!(linear.ticks(4), [48.0, 50.0, 52.0, 54.0, 56.0]);
        let log = Scale::over(Kind::Log, [3e-5, 0.2], [0.0, 100.0]);
        assert_eq!(log.ticks(6).into_iter().map(tick).collect::<Vec<_>>(), ["1e-4", "0.001", "0.01", "0.1"]);
        let signed = Scale::over(Kind::Signed, [-250.0, 3000.0], [0.0, 100.0]);
        assert!(signed.ticks(5).contains(&0.0));
        assert_eq!([40e6, 1.5e9, 0.0, 250e3].map(tick_of_bytes), ["40 MB", "1.5 GB", "0 B", "250 kB"]);
    }

    #[test]
    fn what_has_no_place_gets_none_and_leaves_the_others_theirs() {
        let log = Scale::over(Kind::Log, [0.0, f64::NAN, 1.0, 100.0, f64::INFINITY], [0.0, 100.0]);
        assert_eq!([0.0, -1.0, f64::NAN, f64::INFINITY].map(|value| log.at(value)), [None; 4]);
        let middle = log.at(10.0).expect("has a place");
        assert!((middle - 50.0).abs() < 1e-9, "{middle}");
        for kind in [Kind::Linear, Kind::Log, Kind::Signed] {
            let lonely = Scale::over(kind, [7.0], [0.0, 100.0]).at(7.0).expect("has a place");
            assert!((lonely - 50.0).abs() < 1.0, "{lonely}");
            assert!(Scale::over(kind, [], [0.0, 100.0]).at(1.0).is_some());
        }
    }
}
