//! Edit distance and longest common subsequence, 64 rows of their tables at a time.
//!
//! The table of `a` against `b` is walked in strips of 64 elements of `a`: a strip's differences from row to row are the bits of a word,
//! and what crosses from a strip to the next is kept for each element of `b`. Time is `n·m / 64` steps, memory is linear.
//! G. Myers, A fast bit-vector algorithm for approximate string matching, 1999; H. Hyyrö, Bit-parallel LCS-length computation, 2004.

use std::hash::Hash;

use rustc_hash::FxHashMap;

/// Rows of a strip.
const STRIP: usize = u64::BITS as usize;
/// Elements of a side that are compared: two sides of so many take a minute or less, and what an output holds beyond is no answer.
pub const MOST_COMPARED: usize = 1 << 20;

/// Levenshtein distance: the fewest insertions, deletions and substitutions that turn `a` into `b`.
///
/// Of sides that are longer than [`MOST_COMPARED`], the rests are taken as wholly different: the distance is then at most this.
pub fn edit_distance<T: Eq + Hash>(a: &[T], b: &[T]) -> usize {
    let (short, long) = without_common_ends(a, b);
    let rests = (rest(short), rest(long));
    let sides = Sides::of(compared(short), compared(long));
    let rows = sides.short.len();
    let mut across: Vec<i8> = vec![1; sides.long.len()];
    for (start, matches) in sides.strips() {
        let last = 1 << (STRIP.min(rows - start) - 1);
        edit_strip(&matches, &sides.long, last, &mut across);
    }
    let change: isize = across.iter().map(|step| isize::from(*step)).sum();
    rows.strict_add_signed(change) + rests.0.max(rests.1)
}

/// Length of the longest sequence that both hold in its order, not necessarily without gaps.
///
/// Of sides that are longer than [`MOST_COMPARED`], the rests count as having nothing in common.
pub fn longest_common<T: Eq + Hash>(a: &[T], b: &[T]) -> usize {
    let (short, long) = without_common_ends(a, b);
    let ends = a.len().min(b.len()) - short.len();
    let sides = Sides::of(compared(short), compared(long));
    let mut carries = vec![false; sides.long.len()];
    let common = sides.strips().map(|(start, matches)| {
        let rows = STRIP.min(sides.short.len() - start);
        common_strip(&matches, &sides.long, rows, &mut carries)
    });
    ends + common.sum::<usize>()
}

/// The two without what they begin and end with alike, the shorter first.
fn without_common_ends<'a, T: Eq>(a: &'a [T], b: &'a [T]) -> (&'a [T], &'a [T]) {
    let same = |(a, b): &(&T, &T)| a == b;
    let head = a.iter().zip(b).take_while(same).count();
    let (a, b) = (&a[head..], &b[head..]);
    let tail = a.iter().rev().zip(b.iter().rev()).take_while(same).count();
    let (a, b) = (&a[..a.len() - tail], &b[..b.len() - tail]);
    if a.len() <= b.len() { (a, b) } else { (b, a) }
}

fn compared<T>(side: &[T]) -> &[T] {
    &side[..side.len().min(MOST_COMPARED)]
}

fn rest<T>(side: &[T]) -> usize {
    side.len() - compared(side).len()
}

/// Both sides with a number for each element.
struct Sides {
    short: Vec<u32>,
    long: Vec<u32>,
    /// Different elements of the shorter side; all others are this number.
    different: u32,
}

impl Sides {
    fn of<T: Eq + Hash>(short: &[T], long: &[T]) -> Sides {
        let mut numbers = FxHashMap::default();
        let mut number = |element| {
            let next = numbers.len() as u32;
            *numbers.entry(element).or_insert(next)
        };
        let short: Vec<u32> = short.iter().map(&mut number).collect();
        let different = numbers.len() as u32;
        let long = long.iter().map(|element| numbers.get(element).copied().unwrap_or(different)).collect();
        Sides { short, long, different }
    }

    /// The start of each strip of the shorter side, and by element at which of the strip's rows it stands.
    fn strips(&self) -> impl Iterator<Item = (usize, Vec<u64>)> {
        self.short.chunks(STRIP).enumerate().map(|(index, strip)| {
            let mut matches = vec![0; self.different as usize + 1];
            strip.iter().enumerate().for_each(|(row, element)| matches[*element as usize] |= 1 << row);
            (index * STRIP, matches)
        })
    }
}

/// One strip of the table of distances. `across`: for each element of `long`, by how much the row above the strip changes there, and
/// afterwards by how much the strip's `last` row does.
fn edit_strip(matches: &[u64], long: &[u32], last: u64, across: &mut [i8]) {
    let (mut up, mut down) = (u64::MAX, 0);
    for (element, step) in long.iter().zip(across) {
        let (rises, falls) = (u64::from(*step > 0), u64::from(*step < 0));
        let same = matches[*element as usize];
        let straight = same | down;
        let same = same | falls;
        let diagonal = ((same & up).wrapping_add(up) ^ up) | same;
        let (more, less) = (down | !(diagonal | up), up & diagonal);
        *step = i8::from(more & last != 0) - i8::from(less & last != 0);
        let (more, less) = (more << 1 | rises, less << 1 | falls);
        (up, down) = (less | !(straight | more), more & straight);
    }
}

/// One strip of the table of common lengths: by how much the strip adds to them. `carries`: for each element of `long`, whether the sum
/// of the strip above runs over.
fn common_strip(matches: &[u64], long: &[u32], rows: usize, carries: &mut [bool]) -> usize {
    let mut open = u64::MAX;
    for (element, carry) in long.iter().zip(carries) {
        let found = open & matches[*element as usize];
        let (sum, over) = open.carrying_add(found, *carry);
        open = sum | (open & !found);
        *carry = over;
    }
    let filled = !open & (u64::MAX >> (STRIP - rows));
    filled.count_ones() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_each_kind_of_edit() {
        let d = |a: &str, b: &str| {
            edit_distance(&a.split_whitespace().collect::<Vec<_>>(), &b.split_whitespace().collect::<Vec<_>>())
        };
        assert_eq!(
            [d("", ""), d("a b c", "a b c"), d("a c", "a b c"), d("a b c", "b c"), d("a x c", "a b c")],
            [0, 0, 1, 1, 1]
        );
        assert_eq!([d("k i t t e n", "s i t t i n g"), d("", "a b"), d("b a", "a b")], [3, 2, 2]);
    }

    /// Both figures from the whole table, row by row.
    fn plain(a: &[u8], b: &[u8]) -> (usize, usize) {
        let mut edits: Vec<usize> = (0..=b.len()).collect();
        let mut common = vec![0; b.len() + 1];
        for (i, x) in a.iter().enumerate() {
            let (above_edits, above_common) = (edits.clone(), common.clone());
            edits[0] = i + 1;
            for (j, y) in b.iter().enumerate() {
                edits[j + 1] = (above_edits[j] + usize::from(x != y)).min(above_edits[j + 1] + 1).min(edits[j] + 1);
                common[j + 1] = if x == y { above_common[j] + 1 } else { above_common[j + 1].max(common[j]) };
            }
        }
        (edits[b.len()], common[b.len()])
    }

    #[test]
    fn strips_say_what_the_whole_table_says() {
        let mut state = 1_u32;
        let mut drawn = |end: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % end
        };
        for case in 0..400 {
            let letters = [2, 3, 20][case % 3];
            let a: Vec<u8> = (0..drawn(300)).map(|_| drawn(letters) as u8).collect();
            let mut b: Vec<u8> = (0..drawn(200)).map(|_| drawn(letters) as u8).collect();
            if case % 2 == 0 {
                // Alike but for some places, and for a letter that the other lacks.
                b = a.iter().filter_map(|x| [Some(*x), Some(*x), Some(*x), Some(99), None][drawn(5)]).collect();
            }
            assert_eq!((edit_distance(&a, &b), longest_common(&a, &b)), plain(&a, &b), "{a:?}, {b:?}");
            assert_eq!((edit_distance(&b, &a), longest_common(&b, &a)), plain(&a, &b), "{b:?}, {a:?}");
        }
    }

    #[test]
    fn what_exceeds_the_bound_counts_as_wholly_different() {
        let long = vec![b'a'; MOST_COMPARED + 7];
        assert_eq!(edit_distance(b"xay", &long), MOST_COMPARED + 6);
        assert_eq!(longest_common(b"xay", &long), 1);
        // What ends alike is put aside first.
        assert_eq!(edit_distance(&long[3..], &long), 3);
        assert_eq!(longest_common(&long[3..], &long), long.len() - 3);
    }
}
