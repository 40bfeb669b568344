//! Figures over lengths as a picture.

pub use report::chart::{Line, Panel};

const WIDTH: f64 = 860.0;

/// A file of its own, a panel below the other: medians as marks on a line, quartiles as bars. Both axes are logarithmic.
pub fn svg(panels: &[Panel]) -> String {
    report::chart::panels(panels, WIDTH).alone()
}

#[cfg(test)]
mod tests {
    use metrics::Spread;

    use super::*;

    fn panel(name: &str, values: &[(f64, f64)]) -> Panel {
        let points = values.iter().map(|(x, y)| (*x, Spread { median: *y, low: *y, high: *y })).collect();
        let lines = vec![Line { name: name.to_owned(), points }];
        Panel { title: "first token, ms".into(), across: "source, tokens".into(), lines }
    }

    #[test]
    fn a_picture_is_well_formed_whatever_an_artifact_is_called_and_however_little_there_is() {
        for (name, values) in [
            ("a<b>&\"c\"", &[(32.0, 10.0), (512.0, 200.0)][..]),
            ("one", &[(1.0, 1.0)]),
            ("none", &[]),
            ("zero", &[(1.0, 0.0)]),
        ] {
            let text = svg(&[panel(name, values)]);
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            assert!(!text.contains("<b>"), "{text}");
            assert_eq!(text.matches("<svg").count(), text.matches("</svg>").count());
        }
        assert_eq!(svg(&[panel("x", &[(32.0, 10.0), (512.0, 200.0)])]).matches("<circle").count(), 3);
    }

    #[test]
    fn more_is_higher_and_longer_is_further_right() {
        let text = svg(&[panel("x", &[(32.0, 10.0), (512.0, 200.0)])]);
        let at = text.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a line");
        let numbers: Vec<f64> = at.split([' ', ',']).map(|n| n.parse().expect("a number")).collect();
        assert!(numbers[0] < numbers[2] && numbers[1] > numbers[3], "{numbers:?}");
    }
}
