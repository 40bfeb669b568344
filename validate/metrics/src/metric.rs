//! The figures that say how well texts answer a task.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::{bleu, chrf, error_rates, rouge};

/// A figure that says how well the model does its task. All are told in points, which are hundredths.
///
/// Each is computed as its usual implementation does it, with that one's defaults. A figure that itself takes a model, as COMET, is not
/// computed: bring your own, over the outputs that a run keeps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskMetric {
    /// Share of outputs whose words equal the target's.
    #[default]
    ExactMatch,
    /// Edit distance over words, over words of the target, as jiwer 4.
    #[serde(alias = "token_error_rate")]
    WordErrorRate,
    /// Edit distance over characters, over characters of the target, as jiwer 4.
    CharacterErrorRate,
    /// Corpus BLEU as sacrebleu 2, tokenizer 13a.
    Bleu,
    /// Corpus chrF as sacrebleu 2: six characters, no words, β = 2.
    Chrf,
    /// Mean F of words, as rouge-score without a stemmer.
    Rouge1,
    /// Mean F of pairs of words, as rouge-score without a stemmer.
    Rouge2,
    /// Mean F of the longest common subsequence of words, as rouge-score without a stemmer.
    RougeL,
}

impl TaskMetric {
    /// All, in the order of the recipe's documentation.
    pub const ALL: [TaskMetric; 8] = [
        TaskMetric::ExactMatch,
        TaskMetric::WordErrorRate,
        TaskMetric::CharacterErrorRate,
        TaskMetric::Bleu,
        TaskMetric::Chrf,
        TaskMetric::Rouge1,
        TaskMetric::Rouge2,
        TaskMetric::RougeL,
    ];

    /// As the recipe spells it.
    pub fn name(self) -> &'static str {
        match self {
            TaskMetric::ExactMatch => "exact_match",
            TaskMetric::WordErrorRate => "word_error_rate",
            TaskMetric::CharacterErrorRate => "character_error_rate",
            TaskMetric::Bleu => "bleu",
            TaskMetric::Chrf => "chrf",
            TaskMetric::Rouge1 => "rouge1",
            TaskMetric::Rouge2 => "rouge2",
            TaskMetric::RougeL => "rouge_l",
        }
    }

    /// As a table shows it.
    pub fn label(self) -> &'static str {
        match self {
            TaskMetric::ExactMatch => "exact match",
            TaskMetric::WordErrorRate => "word errors",
            TaskMetric::CharacterErrorRate => "character errors",
            TaskMetric::Bleu => "BLEU",
            TaskMetric::Chrf => "chrF2",
            TaskMetric::Rouge1 => "ROUGE-1",
            TaskMetric::Rouge2 => "ROUGE-2",
            TaskMetric::RougeL => "ROUGE-L",
        }
    }

    /// What sacrebleu prints beside the same figure, but for its version; `None` for the figures that it has not.
    pub fn signature(self) -> Option<&'static str> {
        match self {
            TaskMetric::Bleu => Some(bleu::SIGNATURE),
            TaskMetric::Chrf => Some(chrf::SIGNATURE),
            _ => None,
        }
    }

    /// Whether more is better.
    pub fn rises(self) -> bool {
        !matches!(self, TaskMetric::WordErrorRate | TaskMetric::CharacterErrorRate)
    }

    /// Whether one text can weigh no more than its share, so that an output without an end cannot drown the others. Sums over a corpus,
    /// those of BLEU and chrF included, hold as much of a text as it is long.
    pub fn is_bounded(self) -> bool {
        match self {
            TaskMetric::ExactMatch | TaskMetric::Rouge1 | TaskMetric::Rouge2 | TaskMetric::RougeL => true,
            TaskMetric::WordErrorRate | TaskMetric::CharacterErrorRate | TaskMetric::Bleu | TaskMetric::Chrf => false,
        }
    }

    /// Whether texts are normalized before they are compared. The others have a way to take texts apart of their own.
    pub fn is_normalized(self) -> bool {
        matches!(self, TaskMetric::ExactMatch | TaskMetric::WordErrorRate | TaskMetric::CharacterErrorRate)
    }

    /// How many sums a text adds.
    pub(crate) fn width(self) -> usize {
        match self {
            TaskMetric::Bleu => bleu::SUMS,
            TaskMetric::Chrf => chrf::SUMS,
            _ => 2,
        }
    }

    /// What a text adds: [`TaskMetric::width`] sums.
    pub(crate) fn sums(self, found: &str, target: &str) -> Vec<f64> {
        match self {
            TaskMetric::ExactMatch => vec![f64::from(u8::from(error_rates::are_equal(found, target))), 1.0],
            TaskMetric::WordErrorRate => error_rates::of_words(found, target).to_vec(),
            TaskMetric::CharacterErrorRate => error_rates::of_characters(found, target).to_vec(),
            TaskMetric::Bleu => bleu::sums(found, target).to_vec(),
            TaskMetric::Chrf => chrf::sums(found, target).to_vec(),
            TaskMetric::Rouge1 => vec![rouge::of_runs(found, target, 1), 1.0],
            TaskMetric::Rouge2 => vec![rouge::of_runs(found, target, 2), 1.0],
            TaskMetric::RougeL => vec![rouge::of_longest(found, target), 1.0],
        }
    }

    /// The figure of the added sums of at least one text; never NaN.
    pub(crate) fn points(self, sums: &[f64]) -> f64 {
        match self {
            TaskMetric::Bleu => bleu::points(sums),
            TaskMetric::Chrf => chrf::points(sums),
            TaskMetric::WordErrorRate | TaskMetric::CharacterErrorRate => error_rates::points(sums[0], sums[1]),
            TaskMetric::ExactMatch | TaskMetric::Rouge1 | TaskMetric::Rouge2 | TaskMetric::RougeL => {
                100.0 * sums[0] / sums[1]
            }
        }
    }

    /// The figure of one text, by which it is better or worse than another answer.
    pub(crate) fn points_of_one(self, sums: &[f64]) -> f64 {
        match self {
            TaskMetric::Bleu => bleu::points_of_one(sums),
            _ => self.points(sums),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_the_recipe_says_and_the_old_one_of_word_errors_is_known() {
        for metric in TaskMetric::ALL {
            assert_eq!(serde_json::to_value(metric).expect("a word"), metric.name());
        }
        let old: TaskMetric = serde_json::from_str("\"token_error_rate\"").expect("the older name");
        assert_eq!(old, TaskMetric::WordErrorRate);
    }

    #[test]
    fn a_bounded_metric_loses_no_more_than_the_share_of_one_text_and_the_others_more() {
        let endless = "zz ".repeat(5000);
        let loses = |metric: TaskMetric| {
            let mut sums = vec![0.0; metric.width()];
            let mut add = |found: &str| {
                let text = metric.sums(found, "some words of a target");
                sums.iter_mut().zip(text).for_each(|(sum, one)| *sum += one);
                metric.points(&sums)
            };
            let before = (0..9).map(|_| add("some words of a target")).last().expect("nine texts");
            (add(&endless) - before).abs()
        };
        for metric in TaskMetric::ALL {
            assert_eq!(loses(metric) <= 10.0 + 1e-9, metric.is_bounded(), "{}", metric.name());
        }
    }
}
