//! The plans that waste neither accuracy nor bytes.

/// A plan on the frontier, as its parts predict it.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    /// For each unit, the index of its choice.
    pub choices: Vec<usize>,
    /// Sum of the units' bytes.
    pub bytes: u64,
    /// Sum of the units' distances.
    pub kl: f64,
}

/// From the smallest plan to the most accurate one, each step one unit more precise: the one that gains most accuracy a
/// byte.
///
/// `units`: for each, its choices as `(bytes, kl)`, at least one. Choices above the lower convex hull of a unit are never
/// taken, as a mix of others is better. Ties go to the earlier unit.
pub fn frontier(units: &[Vec<(u64, f64)>]) -> Vec<Point> {
    let hulls: Vec<Vec<usize>> = units.iter().map(|choices| hull(choices)).collect();
    let gain = |unit: usize, step: usize| {
        let (from, to) = (units[unit][hulls[unit][step]], units[unit][hulls[unit][step + 1]]);
        (from.1 - to.1) / (to.0 - from.0) as f64
    };
    let mut steps: Vec<(f64, usize, usize)> = (0..units.len())
        .flat_map(|unit| (0..hulls[unit].len() - 1).map(move |step| (unit, step)))
        .map(|(unit, step)| (gain(unit, step), unit, step))
        .collect();
    // Gains fall along a hull, so the steps of one unit stay in their order.
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let choices: Vec<usize> = hulls.iter().map(|hull| hull[0]).collect();
    let sum = |choices: &[usize]| {
        let chosen = choices.iter().zip(units).map(|(choice, unit)| unit[*choice]);
        chosen.fold((0, 0.0), |(bytes, kl), choice| (bytes + choice.0, kl + choice.1))
    };
    let point = |choices: Vec<usize>| {
        let (bytes, kl) = sum(&choices);
        Point { choices, bytes, kl }
    };
    let mut points = vec![point(choices)];
    for (_, unit, step) in steps {
        let mut choices = points.last().expect("one was pushed").choices.clone();
        choices[unit] = hulls[unit][step + 1];
        points.push(point(choices));
    }
    points
}

/// The choices on the lower convex hull, from the smallest to the most accurate.
fn hull(choices: &[(u64, f64)]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..choices.len()).collect();
    order.sort_by(|a, b| choices[*a].0.cmp(&choices[*b].0).then(choices[*a].1.total_cmp(&choices[*b].1)));
    let mut hull: Vec<usize> = Vec::new();
    for next in order {
        let (bytes, kl) = choices[next];
        if hull.last().is_some_and(|last| choices[*last].1 <= kl) {
            continue; // larger, or as large, and no better
        }
        while let [.., a, b] = hull[..] {
            let slope = |from: usize, to: (u64, f64)| (to.1 - choices[from].1) / (to.0 - choices[from].0) as f64;
            if slope(a, choices[b]) < slope(a, (bytes, kl)) {
                break;
            }
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frontier_takes_the_largest_gain_a_byte_first() {
        // Unit 0 gains 0.3 for 10 bytes, then 0.1 for 10; unit 1 gains 0.2 for 10.
        let units = [vec![(10, 0.5), (20, 0.2), (30, 0.1)], vec![(10, 0.25), (20, 0.05)]];
        let points = frontier(&units);
        let found: Vec<(Vec<usize>, u64)> = points.iter().map(|p| (p.choices.clone(), p.bytes)).collect();
        assert_eq!(found, [(vec![0, 0], 20), (vec![1, 0], 30), (vec![1, 1], 40), (vec![2, 1], 50)]);
        let kl: Vec<f64> = points.iter().map(|p| (p.kl * 1e6).round() / 1e6).collect();
        assert_eq!(kl, [0.75, 0.45, 0.25, 0.15]);
    }

    #[test]
    fn choices_that_are_larger_and_no_better_or_above_the_hull_are_never_taken() {
        // (20, 0.45) lies above the line from (10, 0.5) to (30, 0.1); (40, 0.1) is larger and no better.
        assert_eq!(hull(&[(10, 0.5), (20, 0.45), (30, 0.1), (40, 0.1)]), [0, 2]);
        assert_eq!(hull(&[(30, 0.1), (10, 0.1)]), [1]);
        assert_eq!(hull(&[(10, 0.3), (10, 0.2)]), [1]);
    }

    #[test]
    fn no_plan_of_all_is_smaller_and_better_than_one_of_the_frontier() {
        let units: Vec<Vec<(u64, f64)>> = (0..4_u64)
            .map(|u| {
                (0..3_u64).map(|c| (10 + 7 * c * (u + 1) % 31 + 5 * c, 1.0 / ((c + 1) * (u + 2)) as f64)).collect()
            })
            .collect();
        let points = frontier(&units);
        for plan in 0..81_usize {
            let choices: Vec<usize> = (0..4).map(|u| plan / 3_usize.pow(u) % 3).collect();
            let (bytes, kl) = choices.iter().zip(&units).fold((0, 0.0), |(b, k), (c, u)| (b + u[*c].0, k + u[*c].1));
            assert!(!points.iter().any(|p| bytes < p.bytes && kl < p.kl - 1e-12), "{choices:?} beats the frontier");
        }
    }
}
