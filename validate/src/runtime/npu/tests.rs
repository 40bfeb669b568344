use std::fs;

use converters::export::npu::{Bucket, HOST_FILE, Host, Numbers, Place, Port};
use graph::{Feeds, Tensor};

use super::ports::{self, compare, ty};
use super::{Codes, Found, Signature, Step, Steps, Value};
use crate::runtime::error::RuntimeError;
use crate::runtime::interface::Session;
use report::Engine;

const TARGET: usize = 4;
const HEADS: usize = 2;
const PAD: i64 = 9;

/// How a decoder returns its caches.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Form {
    /// Those of its token, for the host to write.
    Token,
    /// All, written at the slot that the host names.
    Slot,
}

const PLAIN: Numbers = Numbers::Float32;
/// Keys and values of small whole numbers are exact in these codes.
const COARSE: Numbers = Numbers::Uint8 { scale: 0.5, zero: 7 };
const FINE: Numbers = Numbers::Uint16 { scale: 0.25, zero: 1000 };

fn port(name: &str, shape: &[usize], numbers: Numbers, token_axis: Option<usize>) -> Port {
    Port { port: name.to_owned(), name: format!("graph_{name}"), shape: shape.to_vec(), numbers, token_axis }
}

fn host(form: Form, caches: Numbers, logits: Numbers) -> Host {
    let bucket = |source: usize| {
        let cross = ["cross.0.k", "cross.0.v"].map(|name| port(name, &[1, HEADS, source, 1], caches, Some(2)));
        let past_tokens = if form == Form::Token { TARGET - 1 } else { TARGET };
        let present_tokens = if form == Form::Token { 1 } else { TARGET };
        // Keys have their tokens last, as a product takes them.
        let self_ports = |name: &str, tokens: usize| {
            [
                port(&format!("{name}.0.k"), &[1, HEADS, 1, tokens], caches, Some(3)),
                port(&format!("{name}.0.v"), &[1, HEADS, tokens, 1], caches, Some(2)),
            ]
        };
        let mut inputs = vec![
            port("attention_mask", &[1, 1, 1, source], Numbers::Int32, None),
            port("position", &[1], Numbers::Int32, None),
            port("decoder_input_ids", &[1, 1], Numbers::Int32, None),
        ];
        inputs.extend(self_ports("past", past_tokens));
        inputs.extend(cross.clone());
        if form == Form::Slot {
            inputs.push(port("slot", &[1, 1, TARGET, 1], Numbers::Int32, None));
        }
        let mut outputs = self_ports("present", present_tokens).to_vec();
        outputs.push(port("logits", &[1, 5, 1], logits, None));
        let encoder_inputs =
            ["attention_mask", "input_ids"].map(|name| port(name, &[1, source], Numbers::Int32, None)).to_vec();
        Bucket {
            source,
            encoder: Place { file: format!("encoder_{source}.onnx"), inputs: encoder_inputs, outputs: cross.to_vec() },
            decoder: Place { file: format!("decoder_{source}.onnx"), inputs, outputs },
        }
    };
    Host { profile: "test".to_owned(), target: TARGET, pad_token_id: PAD, buckets: vec![bucket(3), bucket(5)] }
}

/// A graph that says what it was fed. Cross keys are the ids and cross values 1, both 0 where the mask is; a token's key is
/// the token, and its value twice that. Logits: the sum of cross keys, of cross values, `Σ (position + 1) · key` of the
/// tokens before, the same of values, and the length of the bucket.
struct Fake {
    place: Place,
    source: usize,
}

fn codes(values: &[f32], numbers: Numbers) -> Codes {
    let of = |scale: f32, zero: i32| values.iter().map(move |x| (x / scale).round() as i32 + zero);
    match numbers {
        Numbers::Float32 => Codes::Float32(values.to_vec()),
        Numbers::Uint8 { scale, zero } => {
            Codes::Uint8(of(scale, zero).map(|c| u8::try_from(c).expect("fits")).collect())
        }
        Numbers::Uint16 { scale, zero } => {
            Codes::Uint16(of(scale, zero).map(|c| u16::try_from(c).expect("fits")).collect())
        }
        Numbers::Int16 { scale } => Codes::Int16(of(scale, 0).map(|c| i16::try_from(c).expect("fits")).collect()),
        Numbers::Int32 => Codes::Int32(values.iter().map(|x| *x as i32).collect()),
    }
}

fn meant(codes: &Codes, numbers: Numbers) -> Vec<f32> {
    let of = |code: i32| match numbers {
        Numbers::Uint8 { scale, zero } | Numbers::Uint16 { scale, zero } => (code - zero) as f32 * scale,
        Numbers::Int16 { scale } => code as f32 * scale,
        Numbers::Int32 | Numbers::Float32 => code as f32,
    };
    match codes {
        Codes::Float32(list) => list.clone(),
        Codes::Int32(list) => list.iter().map(|c| of(*c)).collect(),
        Codes::Uint8(list) => list.iter().map(|c| of(i32::from(*c))).collect(),
        Codes::Uint16(list) => list.iter().map(|c| of(i32::from(*c))).collect(),
        Codes::Int16(list) => list.iter().map(|c| of(i32::from(*c))).collect(),
    }
}

impl Step for Fake {
    fn signature(&self) -> Signature {
        let found = |ports: &[Port]| ports.iter().map(|p| Found { name: p.name.clone(), ty: ty(p) }).collect();
        Signature { inputs: found(&self.place.inputs), outputs: found(&self.place.outputs) }
    }

    fn run(&mut self, inputs: &[(&str, &Value)], outputs: &[&str]) -> Result<Vec<Value>, String> {
        assert_eq!(inputs.len(), self.place.inputs.len(), "every input is fed");
        let of = |port: &str| {
            let port = self.place.inputs.iter().find(|p| p.port == port).ok_or(())?;
            let (_, value) = inputs.iter().find(|(name, _)| *name == port.name).expect("fed");
            assert_eq!(value.shape, port.shape, "{}", port.port);
            assert_eq!(value.codes.len(), port.shape.iter().product::<usize>(), "{}", port.port);
            Ok::<Vec<f32>, ()>(meant(&value.codes, port.numbers))
        };
        let mut made: Vec<(&str, Vec<f32>)> = Vec::new();
        if let Ok(ids) = of("input_ids") {
            let mask = of("attention_mask").expect("an encoder has it");
            assert!(ids.iter().zip(&mask).all(|(id, m)| *m != 0.0 || *id == PAD as f32), "filled with the padding id");
            let keys: Vec<f32> = ids.iter().zip(&mask).map(|(id, m)| id * m).collect();
            made.push(("cross.0.k", keys.repeat(HEADS)));
            made.push(("cross.0.v", mask.repeat(HEADS)));
        } else {
            let [mask, position, token] =
                ["attention_mask", "position", "decoder_input_ids"].map(|p| of(p).expect("fed"));
            let position = position[0] as usize;
            let [k, v] = ["past.0.k", "past.0.v"].map(|p| of(p).expect("fed"));
            let tokens = k.len() / HEADS;
            assert!(
                k[position.min(tokens)..tokens].iter().all(|x| *x == 0.0),
                "nothing stands at or after this position"
            );
            assert_eq!(k[..tokens], k[tokens..], "of every head");
            let weighted = |list: &[f32]| (0..position.min(tokens)).map(|i| (i + 1) as f32 * list[i]).sum::<f32>();
            let seen =
                |port: &str| of(port).expect("fed").iter().zip(mask.iter().cycle()).map(|(x, m)| x * m).sum::<f32>();
            let logits = vec![seen("cross.0.k"), seen("cross.0.v"), weighted(&k), weighted(&v), self.source as f32];
            made.push(("logits", logits));
            for (name, past, by) in [("present.0.k", k, 1.0), ("present.0.v", v, 2.0)] {
                let new = match of("slot") {
                    Ok(slot) => {
                        assert_eq!(slot.iter().position(|s| *s == 1.0), Some(position));
                        assert_eq!(slot.iter().sum::<f32>(), 1.0);
                        let put = |(i, x): (usize, &f32)| if slot[i % tokens] == 1.0 { by * token[0] } else { *x };
                        past.iter().enumerate().map(put).collect()
                    }
                    Err(()) => vec![by * token[0]; HEADS],
                };
                made.push((name, new));
            }
        }
        let value = |name: &&str| {
            let port = self.place.outputs.iter().find(|p| p.name == *name).expect("an output");
            let (_, values) = made.iter().find(|(made, _)| *made == port.port).expect("made");
            Value { shape: port.shape.clone(), codes: codes(values, port.numbers) }
        };
        Ok(outputs.iter().map(value).collect())
    }
}

fn engine() -> Engine {
    Engine { name: "fake".to_owned(), version: "0".to_owned(), settings: String::new() }
}

fn opened(host: &Host) -> Result<Steps<Fake>, RuntimeError> {
    let home = tempfile::tempdir().expect("temporary folder");
    fs::write(home.path().join(HOST_FILE), serde_json::to_vec(host).expect("JSON")).expect("written");
    Steps::open("fake", engine(), home.path(), |file| {
        let name = file.file_name().expect("a file").to_string_lossy().into_owned();
        let places = host.buckets.iter().flat_map(|b| [(&b.encoder, b.source), (&b.decoder, b.source)]);
        let (place, source) = places.into_iter().find(|(place, _)| place.file == name).expect("a place");
        Ok(Fake { place: place.clone(), source })
    })
}

/// Ids and masks of sequences.
fn batch(rows: &[(&[i64], &[i64])]) -> Feeds {
    let shape = [rows.len(), rows[0].0.len()];
    let ids = rows.iter().flat_map(|(ids, _)| ids.to_vec()).collect();
    let mask = rows.iter().flat_map(|(_, mask)| mask.to_vec()).collect();
    Feeds::from([
        ("input_ids".to_owned(), Tensor::i64(shape, ids)),
        ("attention_mask".to_owned(), Tensor::i64(shape, mask)),
    ])
}

#[test]
fn sequences_keep_their_own_bucket_mask_and_cache_in_every_form_and_type() {
    // 2 of 4 tokens are real in the first row; 4 of 4 in the second, which needs the larger bucket.
    let source = batch(&[(&[3, 4, 0, 0], &[1, 1, 0, 0]), (&[1, 2, 3, 5], &[1, 1, 1, 1])]);
    let expected = |cross: f32, count: f32, tokens: [f32; 4], source: f32| -> Vec<f32> {
        let weighted = |n: usize| (0..n).map(|i| (i + 1) as f32 * tokens[i]).sum::<f32>();
        let heads = HEADS as f32;
        (0..4).flat_map(|n| [cross * heads, count * heads, weighted(n), 2.0 * weighted(n), source]).collect()
    };
    let expected = [expected(7.0, 2.0, [6.0, 5.0, 8.0, 1.0], 3.0), expected(11.0, 4.0, [2.0, 9.0, 4.0, 3.0], 5.0)];
    for form in [Form::Token, Form::Slot] {
        for (caches, logits) in [(PLAIN, PLAIN), (COARSE, FINE), (FINE, Numbers::Int16 { scale: 0.5 })] {
            let mut session = opened(&host(form, caches, logits)).expect("described as it is");
            assert_eq!((session.limit_tokens(), session.rows_at_once()), (Some(TARGET), Some(1)));
            // Twice: the second begins anew with what it knows of the sources.
            for splits in [&[4][..], &[1, 2, 1]] {
                session.encode(&source).expect("fits");
                let ids = [[6, 5, 8, 1], [2, 9, 4, 3]];
                let mut from = 0;
                let mut found = [Vec::new(), Vec::new()];
                for n in splits {
                    let fed = ids.iter().flat_map(|row| row[from..from + n].to_vec()).collect();
                    let out = session.decode(&Tensor::i64([2, *n], fed)).expect("has room");
                    assert_eq!(out.shape(), [2, *n, 5]);
                    for (row, logits) in found.iter_mut().zip(out.as_f32().expect("floats").chunks(n * 5)) {
                        row.extend_from_slice(logits);
                    }
                    from += n;
                }
                assert_eq!(found, expected, "{form:?} {caches:?}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_the_artifact_is_refused_with_both_figures() {
    let mut session = opened(&host(Form::Token, PLAIN, PLAIN)).expect("described as it is");
    let say = |result: Result<(), RuntimeError>| result.expect_err("refused").to_string();
    let error = session.decode(&Tensor::i64([1, 1], vec![0])).expect_err("nothing was encoded");
    assert!(error.to_string().ends_with("decode before encode"), "{error}");
    let error = say(session.encode(&batch(&[(&[1; 6], &[1; 6])])));
    assert!(
        error.ends_with("source 0: expected at most 5 tokens, as the artifact's largest bucket takes, found 6"),
        "{error}"
    );
    // Padding counts for nothing.
    session.encode(&batch(&[(&[1; 6], &[1, 1, 1, 1, 1, 0])])).expect("five tokens");
    session.decode(&Tensor::i64([1, 3], vec![1, 2, 3])).expect("three of four");
    let error = session.decode(&Tensor::i64([1, 2], vec![4, 5])).expect_err("one too many");
    assert!(error.to_string().contains("at most 4 tokens, for so many the artifact has room, found 5"), "{error}");
    let error = say(session.encode(&batch(&[(&[1 << 40], &[1])])));
    assert!(error.contains("input_ids[0]: expected int32 ids"), "{error}");
    session.encode(&batch(&[(&[1], &[1])])).expect("one token");
    let error = session.decode(&Tensor::i64([2, 1], vec![4, 5])).expect_err("one sequence was encoded");
    assert!(
        error.to_string().contains("expected 1 sequences of at least a token, as encoded, found 2 of 1"),
        "{error}"
    );
}

#[test]
fn features_go_to_an_encoder_that_takes_them_and_no_mask_anywhere() {
    let mut host = host(Form::Token, PLAIN, PLAIN);
    host.buckets.truncate(1);
    let bucket = &mut host.buckets[0];
    bucket.encoder.inputs = vec![port("input_features", &[1, 2, 6], PLAIN, None)];
    assert_eq!(ports::check(&host), ["decoder_3.onnx: attention_mask: features have none"]);
    host.buckets[0].decoder.inputs.retain(|p| p.port != "attention_mask");
    assert_eq!(ports::check(&host), [""; 0]);
}

#[test]
fn everything_wrong_with_a_description_is_told_at_once() {
    let mut wrong = host(Form::Token, COARSE, PLAIN);
    wrong.buckets[0].encoder.file = "../encoder.onnx".to_owned();
    let decoder = &mut wrong.buckets[0].decoder;
    decoder.inputs.retain(|p| p.port != "position");
    for p in &mut decoder.inputs {
        match p.port.as_str() {
            "past.0.k" => p.shape[3] = TARGET,
            "past.0.v" => p.token_axis = None,
            "cross.0.k" => p.numbers = Numbers::Uint8 { scale: 0.25, zero: 7 },
            "decoder_input_ids" => p.shape = vec![1, 2],
            _ => {}
        }
    }
    decoder.outputs.retain(|p| p.port != "logits");
    wrong.buckets[1].encoder.outputs[1].numbers = Numbers::Uint8 { scale: 0.0, zero: 300 };
    wrong.buckets[1].decoder.inputs[6].port = "cross.1.v".to_owned();
    wrong.buckets[1].decoder.outputs[1].shape = vec![1, HEADS, 1, 2];
    let Err(error) = opened(&wrong) else { panic!("refused") };
    let text = error.to_string();
    for expected in [
        "\"../encoder.onnx\": expected a file in the artifact's folder",
        "decoder_3.onnx: decoder_input_ids: expected 1 int32, found int32[1, 2]",
        "decoder_3.onnx: expected an input position, found none",
        "decoder_3.onnx: expected an output logits, found none",
        "decoder_3.onnx: past.0.k: expected 3 tokens (target - 1, for the decoder returns one token), found uint8[1, 2, 1, 4]",
        "decoder_3.onnx: past.0.v: expected a token_axis below 4, found none",
        "decoder_3.onnx: cross.0.k: expected uint8[1, 2, 3, 1]",
        "encoder_5.onnx: cross.0.v: expected a scale above 0, found 0",
        "encoder_5.onnx: cross.0.v: no input of decoder_5.onnx takes it",
        "decoder_5.onnx: cross.1.v: no output of encoder_5.onnx makes it",
        "decoder_5.onnx: past.0.v: expected present.0.v uint8[1, 2, 1, 1]",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    let mut empty = host(Form::Slot, PLAIN, PLAIN);
    empty.buckets.reverse();
    assert_eq!(ports::check(&empty), ["buckets: expected the shortest first, found 5 before 3"]);
    empty.buckets.clear();
    assert_eq!(ports::check(&empty), ["buckets: expected at least one, found none"]);
    assert_eq!(ports::check(&host(Form::Slot, FINE, PLAIN)), [""; 0]);
}

#[test]
fn a_graph_that_is_not_as_described_is_refused_with_every_difference() {
    let place = &host(Form::Token, COARSE, FINE).buckets[0].decoder;
    let mut found = Fake { place: place.clone(), source: 3 }.signature();
    assert_eq!(compare(place, &found), [""; 0]);
    found.inputs[0].ty = "int64[1, 1, 1, 3]".to_owned();
    found.inputs[1].name = "pos".to_owned();
    found.outputs.pop();
    assert_eq!(
        compare(place, &found),
        [
            "decoder_3.onnx: input graph_attention_mask: expected int32[1, 1, 1, 3], found int64[1, 1, 1, 3]",
            "decoder_3.onnx: expected an input graph_position int32[1], found none",
            "decoder_3.onnx: input pos int32[1]: not described",
            "decoder_3.onnx: expected an output graph_logits uint16[1, 5, 1], found none",
        ]
    );
}

#[test]
fn a_description_from_outside_is_bounded_and_read_strictly() {
    let home = tempfile::tempdir().expect("temporary folder");
    let file = home.path().join(HOST_FILE);
    let open = || {
        let opened = Steps::<Fake>::open("fake", engine(), home.path(), |_| panic!("nothing is opened"));
        opened.err().expect("refused").to_string()
    };
    assert!(open().contains(HOST_FILE), "{}", open());
    let whole = serde_json::to_string(&host(Form::Token, PLAIN, PLAIN)).expect("JSON");
    for part in 0..16 {
        fs::write(&file, &whole[..whole.len() * part / 16]).expect("written");
        assert!(open().starts_with("fake: ") && open().contains(HOST_FILE), "{}", open());
    }
    fs::write(&file, whole.replacen("\"target\"", "\"targets\"", 1)).expect("written");
    assert!(open().contains("unknown field `targets`"), "{}", open());
    fs::File::create(&file).and_then(|f| f.set_len(17 << 20)).expect("sparse");
    assert!(open().contains("expected at most 16777216 bytes"), "{}", open());
}
