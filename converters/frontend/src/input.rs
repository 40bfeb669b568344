//! Named tensors of one sample, and batches of them.

use graph::{Feeds, Tensor};

/// The port of token ids.
const INPUT_IDS: &str = "input_ids";
/// The port that is 0 where an input was filled.
const ATTENTION_MASK: &str = "attention_mask";

/// What an encoder is fed for one sample: tensors by the names of the graph's ports, without the batch.
#[derive(Clone, PartialEq, Debug)]
pub struct Input {
    /// At least one; of the first, attention or convolutions run along the last axis.
    ports: Vec<Port>,
}

#[derive(Clone, PartialEq, Debug)]
struct Port {
    name: &'static str,
    tensor: Tensor,
    fill: Fill,
}

/// How tensors of unequal length stand in one batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// Filled at the end with the model's padding token, beside an `attention_mask` i64 that is 0 there.
    Padding,
    /// Filled at the end with 0, beside such a mask. Encoders hear it, so that inputs of one length stand together where there
    /// is a choice.
    Silence,
    /// Not at all: they are of one shape, and have no mask.
    Never,
}

impl Input {
    /// One tensor, without the batch. `fill`: only a tensor of one axis can be filled.
    pub fn new(name: &'static str, tensor: Tensor, fill: Fill) -> Input {
        Input { ports: vec![Port { name, tensor, fill }] }
    }

    /// `input_ids`: i64[enc].
    pub fn tokens(ids: Vec<i64>) -> Input {
        Input::new(INPUT_IDS, Tensor::i64([ids.len()], ids), Fill::Padding)
    }

    /// This and what is fed beside it, such as an image and what is asked of it. No port is in both.
    #[must_use]
    pub fn beside(mut self, other: Input) -> Input {
        self.ports.extend(other.ports);
        self
    }

    /// Tokens, frames or samples: what attention or convolutions run along.
    pub fn len(&self) -> usize {
        self.ports[0].tensor.shape().last().copied().unwrap_or(0)
    }

    /// Whether there is nothing to encode.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers in it.
    pub fn elements(&self) -> usize {
        self.ports.iter().map(|port| port.tensor.len()).sum()
    }

    /// Its token ids, if it has some.
    pub fn ids(&self) -> Option<&[i64]> {
        self.ports.iter().find(|port| port.name == INPUT_IDS)?.tensor.as_i64()
    }

    /// Positions that it takes of an encoder. Inputs without tokens take none: their front end makes no longer ones than the
    /// encoder has positions for.
    pub fn positions(&self) -> usize {
        self.ids().map_or(0, <[i64]>::len)
    }

    /// Whether nothing that an encoder hears is filled when two inputs stand in one batch.
    pub fn fits_beside(&self, other: &Input) -> bool {
        let hears = |input: &Input| input.ports.iter().any(|port| port.fill == Fill::Silence);
        !(hears(self) && hears(other)) || self.len() == other.len()
    }

    /// Inputs as one batch, by the names of ports. `pad`: the model's padding token.
    ///
    /// Errors: inputs of several kinds, or of several shapes where they are not filled, in words.
    pub fn batch(inputs: &[&Input], pad: i64) -> Result<Feeds, String> {
        let first = *inputs.first().ok_or("expected at least one source, found none")?;
        let kind = |input: &Input| input.ports.iter().map(|port| (port.name, port.fill)).collect::<Vec<_>>();
        if inputs.iter().any(|input| kind(input) != kind(first)) {
            return Err("expected sources of one kind, found several".to_owned());
        }
        let mut feeds = Feeds::new();
        for (i, port) in first.ports.iter().enumerate() {
            let rows: Vec<&Tensor> = inputs.iter().map(|input| &input.ports[i].tensor).collect();
            let tensor = match port.fill {
                Fill::Never => stacked(&rows)?,
                Fill::Padding => {
                    let ids: Vec<&[i64]> = rows.iter().map(|row| row.as_i64().expect("tokens are i64")).collect();
                    let (shape, ids) = padded(&ids, pad);
                    Tensor::i64(shape, ids)
                }
                Fill::Silence => {
                    let samples: Vec<&[f32]> = rows.iter().map(|row| row.as_f32().expect("sound is f32")).collect();
                    let (shape, samples) = padded(&samples, 0.0);
                    Tensor::f32(shape, samples)
                }
            };
            if port.fill != Fill::Never {
                let ones: Vec<Vec<i64>> = rows.iter().map(|row| vec![1; row.len()]).collect();
                let (shape, mask) = padded(&ones, 0);
                feeds.insert(ATTENTION_MASK.to_owned(), Tensor::i64(shape, mask));
            }
            feeds.insert(port.name.to_owned(), tensor);
        }
        Ok(feeds)
    }
}

/// Tensors of one shape, with the batch in front.
fn stacked(rows: &[&Tensor]) -> Result<Tensor, String> {
    let shape = rows[0].shape();
    let mut all = Vec::with_capacity(rows[0].len() * rows.len());
    for row in rows {
        if row.shape() != shape {
            let found = row.shape();
            return Err(format!("expected features f32{shape:?} as in the first sample, found f32{found:?}"));
        }
        all.extend_from_slice(row.as_f32().ok_or("expected features of f32, found i64")?);
    }
    Ok(Tensor::f32([&[rows.len()], shape].concat(), all))
}

/// Rows filled to the length of the longest, and the shape of all.
fn padded<T: Copy>(rows: &[impl AsRef<[T]>], fill: T) -> ([usize; 2], Vec<T>) {
    let width = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let filled = |row: &[T]| [row, &vec![fill; width - row.len()]].concat();
    ([rows.len(), width], rows.iter().flat_map(|row| filled(row.as_ref())).collect())
}

/// The tokens of each of `rows` sequences of a batch, without padding; none where a batch has no tokens.
pub fn tokens(source: &Feeds, rows: usize) -> Vec<Vec<i64>> {
    let Some(ids) = source.get(INPUT_IDS).and_then(Tensor::as_i64) else { return vec![Vec::new(); rows] };
    let mask = source.get(ATTENTION_MASK).and_then(Tensor::as_i64);
    let width = ids.len() / rows.max(1);
    // In a batch, `generate` takes padding for tokens of the source; alone, a source has none.
    let is_real = |i: usize| mask.is_none_or(|mask| mask.get(i).is_some_and(|m| *m != 0));
    let of = |row: usize| (row * width..(row + 1) * width).filter(|i| is_real(*i)).map(|i| ids[i]).collect();
    (0..rows).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Clip;

    #[test]
    fn features_are_stacked_without_a_mask_and_samples_are_filled_with_silence_beside_one() {
        let features = |first: f32, shape: [usize; 2]| {
            let numbers = (0..shape[0] * shape[1]).map(|i| first + i as f32).collect();
            Input::from(Clip::LogMel(Tensor::f32(shape, numbers)))
        };
        let (a, b) = (features(0.0, [2, 3]), features(10.0, [2, 3]));
        let batch = Input::batch(&[&a, &b], 9).expect("one shape");
        let stacked = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
        assert_eq!(batch, Feeds::from([("input_features".to_owned(), Tensor::f32([2, 2, 3], stacked.to_vec()))]));

        let samples = |samples: &[f32]| Input::from(Clip::Samples(samples.to_vec()));
        let (short, long) = (samples(&[0.5]), samples(&[0.25, -1.0]));
        let batch = Input::batch(&[&short, &long], 9).expect("one kind");
        assert_eq!(batch["input_values"], Tensor::f32([2, 2], vec![0.5, 0.0, 0.25, -1.0]));
        assert_eq!(batch["attention_mask"], Tensor::i64([2, 2], vec![1, 0, 1, 1]));
        assert!(!short.fits_beside(&long) && long.fits_beside(&long) && a.fits_beside(&b));

        let error = Input::batch(&[&a, &features(0.0, [2, 4])], 9).expect_err("another length");
        assert_eq!(error, "expected features f32[2, 3] as in the first sample, found f32[2, 4]");
        for mixed in [[&a, &short], [&short, &a], [&Input::tokens(vec![1]), &short]] {
            assert_eq!(Input::batch(&mixed, 9), Err("expected sources of one kind, found several".to_owned()));
        }
        assert_eq!(Input::batch(&[], 9), Err("expected at least one source, found none".to_owned()));
    }

    #[test]
    fn the_tokens_of_a_batch_are_those_that_it_was_made_of() {
        let (short, long) = (vec![7, 1], vec![3, 0, 4, 1]);
        let inputs = [short.clone(), long.clone()].map(Input::tokens);
        let batch = Input::batch(&[&inputs[0], &inputs[1]], 0).expect("one kind");
        assert_eq!(batch["input_ids"], Tensor::i64([2, 4], vec![7, 1, 0, 0, 3, 0, 4, 1]));
        assert_eq!(tokens(&batch, 2), [short, long]);
        let sound = Input::from(Clip::Samples(vec![0.5]));
        assert_eq!(tokens(&Input::batch(&[&sound], 0).expect("one"), 1), [Vec::<i64>::new()]);
        assert_eq!((inputs[1].positions(), sound.positions(), sound.ids()), (4, 0, None));
    }
}
