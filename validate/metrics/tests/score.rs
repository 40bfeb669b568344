//! What scores say of a sample and of pairs.

use metrics::normalize::Rules;
use metrics::{Answer, Lost, Normalizer, Ruling, Scored, Scoring, TaskMetric};

const TARGETS: [&str; 5] = [
    "the cat sat on the mat",
    "it rained all day",
    "she left at noon",
    "nobody knows the reason",
    "ten more words are needed",
];

fn all() -> Scoring {
    Scoring { metrics: TaskMetric::ALL.to_vec(), ..Scoring::default() }
}

fn only(metric: TaskMetric) -> Scoring {
    Scoring { metrics: vec![metric], ..Scoring::default() }
}

fn answer<'a>(found: &'a str, target: &'a str) -> Answer<'a> {
    Answer { found, target, is_endless: false }
}

fn scored<'a>(scoring: &Scoring, answers: impl IntoIterator<Item = Answer<'a>>) -> Scored {
    Scored::of(scoring, answers).expect("answers")
}

/// A target `of` times, of which the output has the first word wrong in the first `wrong`.
fn some_wrong(scoring: &Scoring, of: usize, wrong: usize) -> Scored {
    let right = TARGETS[0];
    let found = right.replacen("the", "a", 1);
    scored(scoring, (0..of).map(|text| answer(if text < wrong { &found } else { right }, right)))
}

fn is_finite(lost: &Lost) -> bool {
    lost.points.is_finite() && lost.interval.iter().all(|end| end.is_finite())
}

#[test]
fn nothing_that_is_said_or_asked_makes_a_figure_that_is_no_number() {
    let texts = ["", " ", "one", "...", "今日", "a b c d e f g"];
    let mut corpora: Vec<Vec<Answer>> = texts.iter().flat_map(|a| texts.iter().map(|b| vec![answer(a, b)])).collect();
    corpora.push(corpora.concat());
    for answers in &corpora {
        let found = scored(&all(), answers.iter().copied());
        let reference = scored(&all(), answers.iter().map(|one| answer(one.target, one.target)));
        for (place, figure) in found.score().figures.iter().enumerate() {
            let ends = figure.interval.unwrap_or([figure.points; 2]);
            assert!(figure.points.is_finite() && ends[0] <= ends[1], "{figure:?} of {answers:?}");
            assert!(is_finite(&found.lost(&reference, place)), "{:?} of {answers:?}", figure.metric);
        }
    }
    assert!(Scored::of(&all(), []).is_none());
}

#[test]
fn an_interval_holds_its_figure_and_one_text_has_only_that_of_its_share() {
    let figures = some_wrong(&all(), 60, 21).score().figures;
    for figure in &figures {
        let [low, high] = figure.interval.expect("60 texts");
        assert!(low < figure.points && figure.points < high, "{figure:?}");
    }
    assert_eq!(figures[0].points, 65.0);
    for figure in some_wrong(&all(), 1, 1).score().figures {
        assert_eq!(figure.interval.is_some(), figure.metric == TaskMetric::ExactMatch, "{figure:?}");
    }
}

#[test]
fn the_first_texts_score_as_if_there_were_no_others() {
    let whole = some_wrong(&all(), 30, 7);
    assert_eq!(whole.first(11), some_wrong(&all(), 11, 7));
    assert_eq!((whole.first(99).score().texts, whole.first(0).score().texts), (30, 1));
}

#[test]
fn a_normalizer_acts_on_words_and_characters_and_on_nothing_else() {
    let scoring = Scoring { normalizer: Normalizer::new(Rules::WhisperEnglish), ..all() };
    let answers = || [answer("Twenty-one pounds, isn't it?", "£21 is not it")];
    let (plain, normalized) = (scored(&all(), answers()).score(), scored(&scoring, answers()).score());
    for (plain, normalized) in plain.figures.iter().zip(&normalized.figures) {
        match plain.metric.is_normalized() {
            true => assert_eq!(normalized.points, if plain.metric.rises() { 100.0 } else { 0.0 }, "{normalized:?}"),
            false => assert_eq!(normalized.points, plain.points, "{normalized:?}"),
        }
    }
}

#[test]
fn an_output_without_an_end_is_told_apart_where_it_drowns_the_others() {
    let endless = "the ".repeat(3000);
    let answers =
        |endless_at: usize| TARGETS.iter().enumerate().map(move |(text, target)| (text == endless_at, *target));
    let of = |endless_at: usize| {
        let found = answers(endless_at).map(|(is_endless, target)| Answer {
            found: if is_endless { &endless } else { target },
            target,
            is_endless,
        });
        scored(&all(), found)
    };
    let (found, reference) = (of(2), of(TARGETS.len()));
    let score = found.score();
    assert_eq!((score.texts, score.endless), (5, 1));
    for (place, figure) in score.figures.iter().enumerate() {
        let best = if figure.metric.rises() { 100.0 } else { 0.0 };
        assert_eq!(figure.ended, (!figure.metric.is_bounded()).then_some(best), "{figure:?}");
        let lost = found.lost(&reference, place);
        let (samples, worse) = if figure.metric.is_bounded() { (5, 1) } else { (4, 0) };
        assert_eq!((lost.samples, lost.worse, lost.better), (samples, worse, 0), "{lost:?}");
    }
    let lost = found.endless_lost(&reference);
    assert_eq!((lost.points, lost.samples, lost.worse, lost.better), (20.0, 5, 1, 0));
    assert_eq!(reference.endless_lost(&found).points, -20.0);
}

#[test]
fn no_pair_is_left_where_every_one_ran_on() {
    let scoring = only(TaskMetric::WordErrorRate);
    let endless = scored(&scoring, TARGETS.map(|target| Answer { is_endless: true, ..answer("no no", target) }));
    let lost = endless.lost(&scored(&scoring, TARGETS.map(|target| answer(target, target))), 0);
    assert_eq!((lost.samples, lost.method.as_str()), (0, "fewer than 6 pairs decide nothing"));
    assert_eq!((lost.ruling(0.5), lost.samples_to_decide(0.5)), (Ruling::Undecided, None));
}

#[test]
fn few_pairs_decide_nothing_unless_they_are_equal() {
    let scoring = only(TaskMetric::Chrf);
    let lost = |pairs| some_wrong(&scoring, pairs, pairs).lost(&some_wrong(&scoring, pairs, 0), 0);
    assert_eq!([1, 5, 6].map(|pairs| lost(pairs).ruling(1.0)), [Ruling::Undecided, Ruling::Undecided, Ruling::Broken]);
    assert_eq!((lost(5).worse, lost(5).method.as_str()), (5, "fewer than 6 pairs decide nothing"));
    assert_eq!(lost(5).samples_to_decide(1.0), None);
    let equal = some_wrong(&scoring, 1, 0);
    let equal = equal.lost(&equal, 0);
    assert_eq!((equal.interval, equal.method.as_str()), ([0.0; 2], "no pair differs"));
}

#[test]
fn pairs_decide_what_two_samples_side_by_side_could_not() {
    for metric in TaskMetric::ALL {
        let scoring = only(metric);
        let texts = |wrong: usize| {
            let found =
                (0..200).map(move |text| if text % 2 == 0 || text < wrong { "quite another one" } else { TARGETS[1] });
            scored(&scoring, found.map(|found| answer(found, TARGETS[1])))
        };
        // Half of the texts are wrong for both; the candidate has 10 more of 200.
        let (found, reference) = (texts(20), texts(0));
        let lost = found.lost(&reference, 0);
        let [low, high] = reference.score().figures[0].interval.expect("200 texts");
        assert_eq!((lost.samples, lost.worse, lost.better), (200, 10, 0), "{lost:?}");
        assert!(lost.points > 0.0 && (lost.interval[0]..=lost.interval[1]).contains(&lost.points), "{lost:?}");
        assert!(lost.interval[1] - lost.interval[0] < (high - low) / 2.0, "{lost:?}, alone {low} to {high}");
        assert_eq!((lost.ruling(0.0), lost.ruling(lost.points)), (Ruling::Broken, Ruling::Undecided));
        let gained = reference.lost(&found, 0);
        assert_eq!((gained.points, gained.worse, gained.better), (-lost.points, 0, 10));
        assert_eq!(gained.ruling(0.0), Ruling::Kept);
    }
}

#[test]
fn one_of_500_is_two_tenths_of_a_point() {
    let scoring = only(TaskMetric::ExactMatch);
    let lost = some_wrong(&scoring, 500, 224).lost(&some_wrong(&scoring, 500, 223), 0);
    assert_eq!((lost.points, lost.worse), (0.2, 1));
    assert_eq!(lost.method, "score interval of pairs; exact McNemar p = 1.000");
}

#[test]
fn what_is_drawn_does_not_depend_on_threads() {
    let at = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let (found, reference) = (some_wrong(&all(), 80, 30), some_wrong(&all(), 80, 11));
            let lost: Vec<Lost> = (0..TaskMetric::ALL.len()).map(|place| found.lost(&reference, place)).collect();
            (found.score(), lost)
        })
    };
    assert_eq!(at(1), at(2));
}
