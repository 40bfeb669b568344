//! Inputs for models that nobody has data for.

use checkpoint::Generation;
use graph::{DType, Graph, Op, Tensor};

use crate::audio::Clip;
use crate::draw::Draw;
use crate::image::{PIXEL_VALUES, Pixels};
use crate::input::Input;

/// Inputs drawn by a fixed rule for the encoder of a graph that was split.
///
/// 3 to 24 tokens of the vocabulary of its embedding, none of them padding and the last an end if there is one; features or
/// pixels of the shape that it takes, between -1 and 1; or a tenth to half a second of noise at 16 kHz.
#[derive(Debug)]
pub struct Noise {
    /// What stands first is what attention runs along.
    takes: Vec<Takes>,
}

/// What an encoder takes.
#[derive(Debug)]
enum Takes {
    Ids { vocabulary: usize },
    Features { n_mels: usize, frames: usize },
    Samples,
    Pixels { shape: [usize; 3] },
}

impl Noise {
    /// Errors: the encoder takes nothing of the kind, in words.
    pub fn of(graph: &Graph) -> Result<Noise, String> {
        Ok(Noise { takes: Takes::of(graph)? })
    }

    /// One input.
    pub fn input(&self, draw: &mut Draw, decoding: &Generation) -> Input {
        let mut drawn = self.takes.iter().map(|takes| takes.input(draw, decoding));
        let first = drawn.next().expect("an encoder takes something");
        drawn.fold(first, Input::beside)
    }
}

impl Takes {
    fn input(&self, draw: &mut Draw, decoding: &Generation) -> Input {
        match *self {
            Takes::Ids { vocabulary } => {
                let tokens = 2 + draw.below(22);
                let mut ids = Vec::new();
                while ids.len() < tokens {
                    let id = draw.below(vocabulary) as i64;
                    // Some embeddings count positions by tokens that are not padding (M2M100 in transformers).
                    if id != decoding.pad_token_id || vocabulary == 1 {
                        ids.push(id);
                    }
                }
                ids.extend(decoding.eos_token_ids.first());
                Input::tokens(ids)
            }
            Takes::Features { n_mels, frames } => {
                let features = (0..n_mels * frames).map(|_| draw.float()).collect();
                Clip::LogMel(Tensor::f32([n_mels, frames], features)).into()
            }
            // A frame of Moonshine's front end needs 895 samples.
            Takes::Samples => Clip::Samples((0..1600 + draw.below(6400)).map(|_| draw.float()).collect()).into(),
            Takes::Pixels { shape } => {
                let pixels = (0..shape.iter().product()).map(|_| draw.float()).collect();
                Pixels(Tensor::f32(shape, pixels)).into()
            }
        }
    }
}

impl Takes {
    fn of(graph: &Graph) -> Result<Vec<Takes>, String> {
        let entry = graph.entry("encoder").ok_or("expected an entry encoder, found none; run the passes first")?;
        let ports = graph.sources(entry);
        let input = |name: &str| {
            ports.iter().find(|port| port.name == name).map(|port| (port.value, &graph.value(port.value).ty))
        };
        let mut takes = Vec::new();
        if let Some((ids, _)) = input("input_ids") {
            let tables = graph.order(entry).into_iter().filter_map(|id| match (graph.op(id), graph.args(id)) {
                (Some(Op::Embed), &[of, table]) if of == ids => graph.value(table).ty.shape[0].literal(),
                _ => None,
            });
            let vocabulary = tables.min().ok_or("encoder: expected a table that embeds input_ids, found none")?;
            takes.push(Takes::Ids { vocabulary });
        }
        if let Some((_, ty)) = input("input_features") {
            let lengths: Vec<Option<usize>> = ty.shape.iter().map(|dim| dim.literal()).collect();
            takes.push(match (ty.dtype, &lengths[..]) {
                (DType::F32, &[_, Some(n_mels), Some(frames)]) => Takes::Features { n_mels, frames },
                _ => return Err(format!("encoder: expected input_features f32[batch, n_mels, frames], found {ty}")),
            });
        }
        if let Some((_, ty)) = input(PIXEL_VALUES) {
            let lengths: Vec<Option<usize>> = ty.shape.iter().map(|dim| dim.literal()).collect();
            takes.push(match (ty.dtype, &lengths[..]) {
                (DType::F32, &[_, Some(channels), Some(height), Some(width)]) => {
                    Takes::Pixels { shape: [channels, height, width] }
                }
                _ => {
                    return Err(format!(
                        "encoder: expected pixel_values f32[batch, channels, height, width], found {ty}"
                    ));
                }
            });
        }
        match input("input_values") {
            Some((_, ty)) if ty.dtype == DType::F32 && ty.shape.len() == 2 => takes.push(Takes::Samples),
            Some((_, ty)) => return Err(format!("encoder: expected input_values f32[batch, samples], found {ty}")),
            None => {}
        }
        if takes.is_empty() {
            let found: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
            let found = found.join(", ");
            return Err(format!(
                "encoder: expected one of input_ids, input_features, input_values, pixel_values, found {found}"
            ));
        }
        Ok(takes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use graph::{BATCH, Blob, Build, Dim, ENC, FloatType, Sym, Type, Weight, WeightData};

    use super::*;

    /// A graph with an encoder that takes what the test says.
    fn encoder(name: &str, ty: Type) -> Graph {
        let b = Build::new();
        let input = b.input(name, ty);
        let table = b.weight(Weight {
            name: "table".into(),
            shape: vec![7, 2],
            data: WeightData::Stored { blob: Blob::memory([0; 56]), dtype: FloatType::F32 },
        });
        let y = if name == "input_ids" { input.embed(table) } else { input * 2.0 };
        b.entry("encoder", &[(name, input)], &[("encoder_hidden", y)], BTreeMap::new());
        b.finish().expect("a graph")
    }

    #[test]
    fn what_is_drawn_is_what_the_encoder_takes() {
        let decoding = Generation::plain(0, &[1, 2], 3, 20);
        let drawn = |graph: &Graph| -> Result<Vec<Input>, String> {
            let (noise, mut draw) = (Noise::of(graph)?, Draw::default());
            Ok((0..40).map(|_| noise.input(&mut draw, &decoding)).collect())
        };
        for input in drawn(&encoder("input_ids", Type::i64([BATCH, ENC]))).expect("ids") {
            let ids = input.ids().unwrap_or_else(|| panic!("{input:?}"));
            assert!(
                (3..=24).contains(&ids.len())
                    && ids.last() == Some(&1)
                    && ids.iter().all(|id| (0..7).contains(id) && *id != 3)
            );
        }
        let features = encoder("input_features", Type::f32([Dim::from(BATCH), 4.into(), 6.into()]));
        let found = drawn(&features).expect("features");
        assert!(found[0] != found[1]);
        for input in found {
            let batch = Input::batch(&[&input], 0).expect("one");
            let features = &batch["input_features"];
            assert_eq!(features.shape(), [1, 4, 6]);
            assert!(features.as_f32().expect("floats").iter().all(|x| (-1.0..1.0).contains(x)));
        }
        let found = drawn(&encoder("input_values", Type::f32([BATCH, Sym("samples")]))).expect("samples");
        assert!(found.iter().all(|input| (1600..8000).contains(&input.len())));
        assert!(found.iter().all(|input| Input::batch(&[input], 0).expect("one").contains_key("input_values")));

        let pixels = encoder("pixel_values", Type::f32([Dim::from(BATCH), 3.into(), 4.into(), 6.into()]));
        let found = drawn(&pixels).expect("pixels");
        assert!(found[0] != found[1]);
        for input in found {
            let batch = Input::batch(&[&input], 0).expect("one");
            assert_eq!(batch.keys().collect::<Vec<_>>(), ["pixel_values"]);
            assert_eq!(batch["pixel_values"].shape(), [1, 3, 4, 6]);
        }

        let error = drawn(&encoder("pixels", Type::f32([BATCH]))).expect_err("no such source");
        assert_eq!(
            error,
            "encoder: expected one of input_ids, input_features, input_values, pixel_values, found pixels"
        );
        let error = drawn(&encoder("input_features", Type::f32([BATCH, ENC]))).expect_err("two dimensions");
        assert_eq!(error, "encoder: expected input_features f32[batch, n_mels, frames], found f32[batch, enc]");
    }
}
