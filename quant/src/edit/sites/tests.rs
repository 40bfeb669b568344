use std::collections::BTreeMap;

use graph::{BATCH, Blob, Build, DEC, Feeds, FloatType, Interpreter, Tensor, Type, Val, Weight};

use super::*;

#[test]
fn smoothquant_shares_the_range_by_alpha() {
    // By hand: √(16 / 4) = 2, 16^0.75 / 4^0.25 = 8 / √2, 16^1 / 4^0 = 16.
    assert_eq!(smoothquant(&[16.0], &[4.0], 0.5), [2.0]);
    assert!((smoothquant(&[16.0], &[4.0], 0.75)[0] - 8.0 / 2f32.sqrt()).abs() < 1e-6);
    assert_eq!(smoothquant(&[16.0, 16.0], &[4.0, 0.5], 1.0), [16.0, 16.0]);
    assert_eq!(smoothquant(&[16.0], &[4.0], 0.0), [0.25]);
}

#[test]
fn equalized_ranges_meet_in_the_middle() {
    let s = equalized(&[8.0, 0.5], &[2.0, 32.0]);
    assert_eq!(s, [2.0, 0.125]);
    assert_eq!([8.0 / s[0], 0.5 / s[1]], [2.0 * s[0], 32.0 * s[1]]);
}

#[test]
fn dead_and_broken_channels_keep_their_scale_and_extreme_ones_are_bounded() {
    let bad = [0.0, f32::NAN, f32::INFINITY, -1.0];
    for x in bad {
        assert_eq!(smoothquant(&[x, 3.0], &[3.0, x], 0.5), [1.0, 1.0], "{x}");
        assert_eq!(equalized(&[x, 3.0], &[3.0, x]), [1.0, 1.0], "{x}");
    }
    assert_eq!(smoothquant(&[1e30, 1e-40], &[1e-30, 1e30], 0.5), [1024.0, 1.0 / 1024.0]);
    assert_eq!(equalized(&[1e38, 1e-40], &[1e-40, 1e38]), [1024.0, 1.0 / 1024.0]);
}

#[test]
fn the_nearest_power_of_two_is_nearest_by_ratio() {
    assert_eq!(
        power_of_two(&[1.0, 1.41, 1.42, 0.75, 0.7, 1024.0, 1.0 / 1024.0]),
        [1.0, 1.0, 2.0, 1.0, 0.5, 1024.0, 1.0 / 1024.0]
    );
}

/// Numbers in -1..1 that differ from name to name.
fn stored(name: &str, shape: &[usize]) -> Weight {
    let mut state = name.bytes().fold(0x9e37_79b9_u64, |hash, byte| hash.wrapping_mul(31) + u64::from(byte)) | 1;
    let values = (0..shape.iter().product()).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    });
    let values: Vec<f32> = values.collect();
    let mut bytes = vec![0; 4 * values.len()];
    FloatType::F32.encode(&values, &mut bytes);
    let data = WeightData::Stored { blob: Blob::memory(bytes), dtype: FloatType::F32 };
    Weight { name: name.into(), shape: shape.to_vec(), data }
}

/// What `write` makes of `x[batch, dec, 4]`, as entry `full`.
fn graph(write: impl for<'b> Fn(&'b Build, Val<'b>) -> Vec<(&'static str, Val<'b>)>) -> Graph {
    let b = Build::new();
    let x = b.input("x", Type::f32([Dim::from(BATCH), DEC.into(), 4.into()]));
    let outputs = write(&b, x);
    b.entry("full", &[("x", x)], &outputs, BTreeMap::new());
    b.finish().expect("fits")
}

fn y(graph: &Graph) -> Tensor {
    let x = (0..24).map(|i| ((i * 7 % 11) as f32 - 5.0) / 3.0).collect();
    let feeds = Feeds::from([("x".to_owned(), Tensor::f32([2, 3, 4], x))]);
    Interpreter::new(graph).call("full", &feeds).expect("evaluates").remove("y").expect("an output y")
}

/// Powers of two from 1/8 to 8, another for each channel.
fn factors(width: usize) -> Vec<f32> {
    (0..width).map(|i| 2f32.powi((i * 5 % 7) as i32 - 3)).collect()
}

/// The only place of a graph, which keeps every bit of `y` and changes its own input.
fn moves(graph: &Graph) -> Place {
    let found = places(graph);
    let [place] = &found[..] else { panic!("{found:?}; {:?}", refused(graph)) };
    let mut moved = graph.clone();
    apply(&mut moved, place, &factors(place.width));
    assert_eq!(y(graph), y(&moved), "{}", place.name);
    let before = place.producer_max(graph).expect("memory");
    let after = place.producer_max(&moved).expect("memory");
    let divided: Vec<f32> = before.iter().zip(factors(place.width)).map(|(max, s)| max / s).collect();
    assert_eq!(after, divided);
    place.clone()
}

/// Why nothing of a graph can move.
fn stays(graph: &Graph) -> Vec<String> {
    assert_eq!(places(graph), []);
    refused(graph).into_iter().map(|(name, why)| format!("{name}: {why}")).collect()
}

#[test]
fn a_norm_moves_into_all_its_readers_with_its_bias() {
    let place = moves(&graph(|b, x| {
        let w = |name: &str, shape: &[usize]| b.weight(stored(name, shape));
        let n = x.layer_norm(w("gain", &[4]), Some(w("bias", &[4])), 1e-5);
        vec![("y", n.linear(w("a", &[3, 4]), Some(w("a.bias", &[3]))) + n.linear(w("b", &[3, 4]), None))]
    }));
    assert_eq!((place.kind, &place.name[..], place.width), (Kind::Norm, "gain", 4));
    assert_eq!((place.divided.len(), place.multiplied.len()), (2, 2));
}

#[test]
fn a_norm_stays_when_its_readers_or_weights_are_not_its_own() {
    type Case = for<'b> fn(&'b Build, Val<'b>) -> Vec<(&'static str, Val<'b>)>;
    fn w<'b>(b: &'b Build, name: &str, shape: &[usize]) -> Val<'b> {
        b.weight(stored(name, shape))
    }
    let cases: [(Case, &str); 6] = [
        (
            |b, x| {
                let n = x.rms_norm(w(b, "gain", &[4]), 1e-5);
                vec![("y", n.linear(w(b, "a", &[4, 4]), None) + n)]
            },
            "rms_norm: add reads it, which is no Linear",
        ),
        (
            |b, x| {
                let n = x.rms_norm(w(b, "gain", &[4]), 1e-5);
                vec![("y", n.linear(w(b, "a", &[4, 4]), None)), ("n", n)]
            },
            "rms_norm: rms_norm is the output n",
        ),
        (
            |b, x| {
                let n = x.rms_norm(w(b, "gain", &[4]) + 1.0, 1e-5);
                vec![("y", n.linear(w(b, "a", &[4, 4]), None))]
            },
            "rms_norm: add is computed, not a weight",
        ),
        (
            |b, x| {
                let n = x.rms_norm(w(b, "gain", &[4]), 1e-5);
                vec![("y", n.linear(w(b, "a", &[4, 4]), None)), ("z", x * w(b, "gain", &[4]))]
            },
            "rms_norm: gain has other uses",
        ),
        (
            |b, x| {
                let n = x.rms_norm(w(b, "gain", &[4]), 1e-5);
                vec![("y", n.linear(w(b, "a", &[4, 4]), None)), ("z", x.linear(w(b, "a", &[4, 4]), None))]
            },
            "rms_norm: a has other uses",
        ),
        (
            |b, x| {
                let n = x.rms_norm(w(b, "gain", &[4]), 1e-5);
                vec![("y", x.linear(w(b, "a", &[4, 4]), None)), ("z", n)]
            },
            "rms_norm: no Linear reads it",
        ),
    ];
    for (write, expected) in cases {
        assert_eq!(stays(&graph(write)), [expected]);
    }
}

#[test]
fn quantized_weights_keep_their_codes() {
    let mut graph = graph(|b, x| {
        let n = x.rms_norm(b.weight(stored("gain", &[4])), 1e-5);
        vec![("y", n.linear(b.weight(stored("a", &[4, 4])), None))]
    });
    assert_eq!(places(&graph).len(), 1);
    let a = graph.weights.find("a").expect("a weight");
    let codes = graph::AffineTensor {
        shape: [4, 4],
        bits: 8,
        block: graph::Block::Row,
        codes: Blob::memory(vec![1; 16]),
        scales: vec![half::f16::ONE; 4],
        zeros: None,
    };
    graph.weights.get_mut(a).data = WeightData::Quantized(graph::Quantized::Affine(codes));
    assert_eq!(stays(&graph), ["rms_norm: a is quantized already"]);
}

#[test]
fn a_feed_forward_layer_moves_through_relu_or_its_linear_branch_and_not_through_gelu() {
    let layer = |function: Unary, gated: bool, swapped: bool| {
        graph(move |b, x| {
            let w = |name: &str, shape: &[usize]| b.weight(stored(name, shape));
            let mut h = x.linear(w("wi", &[6, 4]), Some(w("wi.bias", &[6]))).activation(function);
            if gated {
                let up = x.linear(w("up", &[6, 4]), Some(w("up.bias", &[6])));
                h = if swapped { up * h } else { h * up };
            }
            vec![("y", h.linear(w("wo", &[3, 6]), None))]
        })
    };
    assert_eq!(moves(&layer(Unary::Relu, false, false)).name, "wi");
    for (function, swapped) in [(Unary::Relu, false), (Unary::GeluTanh, false), (Unary::Silu, true)] {
        let place = moves(&layer(function, true, swapped));
        assert_eq!((place.kind, &place.name[..], place.divided.len()), (Kind::FeedForward, "up", 2));
    }
    let why = "Gelu of x / s is not Gelu(x) / s, and there is no linear branch";
    assert_eq!(stays(&layer(Unary::Gelu, false, false)), [format!("gelu: {why}")]);
}

#[test]
fn a_gate_and_its_branch_may_be_halves_of_one_linear() {
    let halves = |start: usize| {
        graph(move |b, x| {
            let w = |name: &str, shape: &[usize]| b.weight(stored(name, shape));
            let both = x.linear(w("wi", &[12, 4]), Some(w("wi.bias", &[12])));
            let half = |start| b.op(Op::Slice { axis: 2, start, step: 1, len: 6.into() }, &[both]);
            vec![("y", (half(start).activation(Unary::Silu) * half(0)).linear(w("wo", &[3, 6]), None))]
        })
    };
    let place = moves(&halves(6));
    assert_eq!(place.divided[0].channels[5..7], [Some(5), None]);
    assert_eq!(stays(&halves(5)), ["mul: linear is also read by slice"]);
}

#[test]
fn a_branch_that_is_read_elsewhere_stays() {
    let used = graph(|b, x| {
        let w = |name: &str, shape: &[usize]| b.weight(stored(name, shape));
        let h = x.linear(w("wi", &[6, 4]), None);
        vec![("y", h.relu().linear(w("wo", &[3, 6]), None)), ("z", h.tanh())]
    });
    assert_eq!(stays(&used), ["relu: linear is also read by tanh"]);
    let shown = graph(|b, x| {
        let h = x.linear(b.weight(stored("wi", &[6, 4])), None);
        vec![("y", h.relu().linear(b.weight(stored("wo", &[3, 6])), None)), ("h", h)]
    });
    assert_eq!(stays(&shown), ["relu: linear is the output h"]);
    let shown_half = graph(|b, x| {
        let both = x.linear(b.weight(stored("wi", &[12, 4])), None);
        let [gate, up] = [0, 6].map(|start| b.op(Op::Slice { axis: 2, start, step: 1, len: 6.into() }, &[both]));
        vec![("y", (gate.relu() * up).linear(b.weight(stored("wo", &[3, 6])), None)), ("up", up)]
    });
    assert_eq!(stays(&shown_half), ["mul: slice_1 is the output up"]);
    let squared = graph(|b, x| {
        let h = x.linear(b.weight(stored("wi", &[6, 4])), None);
        vec![("y", (h * h).linear(b.weight(stored("wo", &[3, 6])), None))]
    });
    assert_eq!(stays(&squared), ["mul: linear is both factors"]);
}

/// An attention with `h` query heads of 2 over `g` key heads, their values put in order by `merge`.
fn attention(
    [h, g]: [usize; 2],
    merge: impl for<'b> Fn(Val<'b>) -> Val<'b>,
    more: impl for<'b> Fn(Val<'b>) -> Option<(&'static str, Val<'b>)>,
) -> Graph {
    graph(|b, x| {
        let w = |name: &str, shape: &[usize]| b.weight(stored(name, shape));
        let q = x.linear(w("q", &[2 * h, 4]), None).heads(h);
        let [k, v] = ["k", "v"].map(|name| x.linear(w(name, &[2 * g, 4]), Some(w(&format!("{name}.bias"), &[2 * g]))));
        let out = merge(q.attention(k.heads(g), v.heads(g), None, 0.5, None));
        let y = out.linear(w("o", &[3, 2 * h]), None);
        [Some(("y", y)), more(v)].into_iter().flatten().collect()
    })
}

#[test]
fn values_move_into_every_column_that_their_head_reaches() {
    let plain = moves(&attention([3, 3], |x| x.merge_heads(), |_| None));
    assert_eq!((plain.kind, &plain.name[..], plain.width), (Kind::Values, "v", 6));
    assert_eq!(plain.multiplied[0].channels, (0..6).map(Some).collect::<Vec<_>>());
    let grouped = moves(&attention([4, 2], |x| x.merge_heads(), |_| None));
    assert_eq!(grouped.width, 4);
    assert_eq!(grouped.multiplied[0].channels, [0, 1, 0, 1, 2, 3, 2, 3].map(Some));
    assert_eq!(grouped.per_channel(&[1.0, 2.0, -3.0, 4.0, 5.0, 6.0, 7.0, -8.0]), [3.0, 4.0, 7.0, 8.0]);
    // [b, 4, n, 2] with the pairs of heads in turn, as Mu puts them.
    let turned = moves(&attention(
        [4, 2],
        |x| {
            let [b, n] = [Dim::from(BATCH), Dim::from(DEC)];
            let pairs = x.reshape([b.clone(), 2.into(), 2.into(), n.clone(), 2.into()]);
            pairs.transpose(vec![0, 3, 2, 1, 4]).reshape([b, n, 8.into()])
        },
        |_| None,
    ));
    assert_eq!(turned.multiplied[0].channels, [0, 1, 2, 3, 0, 1, 2, 3].map(Some));
}

#[test]
fn values_that_are_shown_or_changed_on_their_way_stay() {
    let shown = attention([2, 2], |x| x.merge_heads(), |v| Some(("v", v)));
    assert_eq!(stays(&shown), ["attention: linear_2 is the output v"]);
    let used = attention([2, 2], |x| x.merge_heads(), |v| Some(("z", v.relu())));
    assert_eq!(stays(&used), ["attention: linear_2 is also read by relu"]);
    let bent = attention([2, 2], |x| x.merge_heads().tanh(), |_| None);
    assert_eq!(stays(&bent), ["attention: reshape_3 is not only put in order for a Linear"]);
    // Queries in the place of columns: their channels would depend on the position.
    let crossed = attention([2, 2], |x| x.reshape([Dim::from(BATCH), DEC.into(), 4.into()]), |_| None);
    assert_eq!(stays(&crossed), ["attention: the channels of the values are not those of single columns"]);
}
