//! Where labels of dots go: beside their dots, never on a dot, on each other, or over the frame.

use std::f64::consts::PI;

/// A rectangle, edges in pixels.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Area {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

/// A label that wants a place.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The middle of its dot.
    pub at: [f64; 2],
    pub width: f64,
    pub height: f64,
}

/// Where a label is, and the line that leads to it where it is not beside its dot.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Place {
    pub area: Area,
    pub leader: Option<[[f64; 2]; 2]>,
}

/// Between a dot's middle and the label beside it.
const BESIDE: f64 = 9.0;
/// Farther places, tried in this order.
const RINGS: [f64; 12] = [BESIDE, 14.0, 22.0, 32.0, 46.0, 60.0, 76.0, 94.0, 114.0, 138.0, 164.0, 200.0];
/// From here on a line leads to the label.
const LED: f64 = 20.0;
/// Directions of a ring as parts of a half turn, in the order in which they read best: right, left, above, below, between these.
const DIRECTIONS: [f64; 24] = [
    0.0, 1.0, -0.5, 0.5, -0.25, 0.25, -0.75, 0.75, -0.125, 0.125, -0.875, 0.875, -0.375, 0.375, -0.625, 0.625, -0.06,
    0.06, -0.94, 0.94, -0.19, 0.19, -0.81, 0.81,
];

impl Area {
    /// A square around a point.
    pub fn around([x, y]: [f64; 2], radius: f64) -> Area {
        Area { left: x - radius, top: y - radius, right: x + radius, bottom: y + radius }
    }

    /// Whether the two have a part in common.
    pub fn meets(&self, other: &Area) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    /// Whether all of it is inside.
    pub fn is_within(&self, frame: &Area) -> bool {
        self.left >= frame.left && self.right <= frame.right && self.top >= frame.top && self.bottom <= frame.bottom
    }

    /// Whether a straight line runs through it (Liang and Barsky, 1984).
    fn is_crossed(&self, [[x, y], [to_x, to_y]]: [[f64; 2]; 2]) -> bool {
        let (dx, dy) = (to_x - x, to_y - y);
        let (mut enters, mut leaves) = (0.0f64, 1.0f64);
        for (step, room) in [(-dx, x - self.left), (dx, self.right - x), (-dy, y - self.top), (dy, self.bottom - y)] {
            if step == 0.0 {
                if room < 0.0 {
                    return false;
                }
            } else if step < 0.0 {
                enters = enters.max(room / step);
            } else {
                leaves = leaves.min(room / step);
            }
        }
        enters < leaves
    }
}

/// A place for each label, in their order: the first that is free. None where no place is free.
///
/// `taken`: what no label may lie on, the dots themselves; lines lead through dots only where there is no other way. The place of a
/// label depends on those before it alone.
pub fn place(frame: &Area, taken: &[Area], wanted: &[Wanted]) -> Vec<Option<Place>> {
    let mut placed: Vec<Place> = Vec::new();
    let mut all = Vec::with_capacity(wanted.len());
    for label in wanted {
        let free = |place: &Place| place.area.is_within(frame) && is_free(place, taken, &placed);
        let clear = |place: &Place| free(place) && !taken.iter().any(|dot| place.leads_through(dot, label.at));
        let found = candidates(label).find(clear).or_else(|| candidates(label).find(free));
        placed.extend(found);
        all.push(found);
    }
    all
}

/// Neither on what is taken nor on other labels, and no line on any label.
fn is_free(place: &Place, taken: &[Area], placed: &[Place]) -> bool {
    let clashes = |other: &Place| {
        let is_led_over = other.leader.is_some_and(|leader| place.area.is_crossed(leader));
        let leads_over = place.leader.is_some_and(|leader| other.area.is_crossed(leader));
        place.area.meets(&other.area) || is_led_over || leads_over
    };
    !taken.iter().any(|area| place.area.meets(area)) && !placed.iter().any(clashes)
}

impl Place {
    /// Whether its line runs through a dot that is not its own.
    fn leads_through(&self, dot: &Area, [x, y]: [f64; 2]) -> bool {
        let is_own = dot.left < x && x < dot.right && dot.top < y && y < dot.bottom;
        !is_own && self.leader.is_some_and(|leader| dot.is_crossed(leader))
    }
}

fn candidates(label: &Wanted) -> impl Iterator<Item = Place> {
    let ([x, y], width, height) = (label.at, label.width, label.height);
    RINGS.iter().flat_map(move |ring| {
        DIRECTIONS.iter().map(move |turn| {
            let (dy, dx) = (turn * PI).sin_cos();
            let (middle_x, middle_y) = (x + dx * (ring + width / 2.0), y + dy * (ring + height / 2.0));
            let area = Area {
                left: middle_x - width / 2.0,
                top: middle_y - height / 2.0,
                right: middle_x + width / 2.0,
                bottom: middle_y + height / 2.0,
            };
            let near = [x.clamp(area.left, area.right), y.clamp(area.top, area.bottom)];
            Place { area, leader: (*ring > LED).then_some([[x, y], near]) }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Area = Area { left: 0.0, top: 0.0, right: 500.0, bottom: 300.0 };

    /// Dots as crowded as they get, some of them on one point and in corners.
    fn crowd() -> Vec<[f64; 2]> {
        let mut dots = vec![[5.0, 5.0], [495.0, 295.0], [250.0, 150.0], [250.0, 150.0], [251.0, 151.0]];
        dots.extend((0..10).map(|i| [240.0 + 3.0 * f64::from(i), 140.0 + 2.0 * f64::from(i * i % 7)]));
        dots
    }

    #[test]
    fn labels_lie_neither_on_each_other_nor_on_dots_nor_over_the_frame() {
        let dots = crowd();
        let taken: Vec<Area> = dots.iter().map(|dot| Area::around(*dot, 5.0)).collect();
        let wanted: Vec<Wanted> = dots.iter().map(|dot| Wanted { at: *dot, width: 80.0, height: 15.0 }).collect();
        let places: Vec<Place> = place(&FRAME, &taken, &wanted).into_iter().flatten().collect();
        assert!(places.len() >= 10, "{} of 15 have room", places.len());
        for (i, one) in places.iter().enumerate() {
            assert!(one.area.is_within(&FRAME), "{one:?}");
            assert!(!taken.iter().any(|dot| one.area.meets(dot)), "{one:?}");
            assert!(!places[..i].iter().any(|other| one.area.meets(&other.area)), "{one:?}");
            let others = places.iter().enumerate().filter(|(j, _)| *j != i);
            let mut crossed = others.filter(|(_, other)| one.leader.is_some_and(|l| other.area.is_crossed(l)));
            assert!(crossed.next().is_none(), "{one:?}");
        }
    }

    #[test]
    fn eight_dots_in_a_row_that_touch_are_all_named() {
        let dots: Vec<[f64; 2]> = (0..8).map(|i| [200.0 + 11.0 * f64::from(i), 150.0]).collect();
        let taken: Vec<Area> = dots.iter().map(|dot| Area::around(*dot, 5.0)).collect();
        let wanted: Vec<Wanted> = dots.iter().map(|dot| Wanted { at: *dot, width: 80.0, height: 15.0 }).collect();
        assert!(place(&FRAME, &taken, &wanted).iter().all(Option::is_some));
    }

    #[test]
    fn a_label_for_which_there_is_no_room_is_left_out() {
        let wanted = [Wanted { at: [250.0, 150.0], width: 600.0, height: 15.0 }];
        assert_eq!(place(&FRAME, &[], &wanted), [None]);
    }

    #[test]
    fn a_lonely_label_is_right_of_its_dot_and_left_of_it_at_the_right_edge() {
        let at = |x: f64| {
            let wanted = [Wanted { at: [x, 150.0], width: 60.0, height: 15.0 }];
            place(&FRAME, &[Area::around([x, 150.0], 5.0)], &wanted)[0].expect("has room").area
        };
        assert!(at(100.0).left > 100.0 && at(490.0).right < 490.0);
    }
}
