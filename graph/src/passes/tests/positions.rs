//! Decoders whose steps are not the whole pass, and their near misses.

use super::*;

/// A decoder of one causal attention and of what `write` makes of its result, f32[batch, dec, 8].
fn decoder(write: impl for<'b> Fn(&'b Build, Val<'b>) -> Val<'b>) -> Graph {
    attending(write, |b| Some(b.mask(Visible::CAUSAL, 0, DEC, DEC)))
}

/// The same with the bias of its attention.
fn attending(
    write: impl for<'b> Fn(&'b Build, Val<'b>) -> Val<'b>,
    bias: impl for<'b> Fn(&'b Build) -> Option<Val<'b>>,
) -> Graph {
    let b = Build::new();
    let source = b.input("input_ids", Type::i64([BATCH, ENC]));
    let target = b.input("decoder_input_ids", Type::i64([BATCH, DEC]));
    let table = weight(&b, "table", &[11, 8]);
    let encoder = source.embed(table);
    let x = target.embed(table);
    let heads = x.heads(2);
    let x = x + heads.attention(heads, heads, bias(&b), 0.5, None).merge_heads();
    let keys = encoder.heads(2);
    let x = x + x.heads(2).attention(keys, keys, None, 0.5, None).merge_heads();
    let y = write(&b, x).linear(table, None);
    let inputs = [("input_ids", source), ("decoder_input_ids", target)];
    b.entry("full", &inputs, &[("logits", y), ("encoder_hidden", encoder)], BTreeMap::new());
    b.finish().expect("fits")
}

fn weight<'b>(b: &'b Build, name: &str, shape: &[usize]) -> Val<'b> {
    let small: Vec<f32> =
        random(name.bytes().map(u64::from).sum(), shape.iter().product()).iter().map(|x| x / 10.0).collect();
    b.weight(Weight::stored(name.into(), shape.to_vec(), &small))
}

/// What the passes say, with the graph left as it was before the last of them.
fn refusal(mut graph: Graph) -> String {
    run(&mut graph).expect_err("a step would be another number").to_string()
}

fn channels_first(x: Val<'_>) -> Val<'_> {
    x.transpose(vec![0, 2, 1])
}

#[test]
fn a_norm_over_target_positions_is_refused_by_name() {
    let normed = decoder(|b, x| {
        let _here = b.scope("mixer");
        let [w, bias] = ["w", "bias"].map(|name| weight(b, name, &[8]));
        channels_first(channels_first(x).group_norm(w, bias, 2, 1e-5))
    });
    assert_eq!(
        refusal(normed),
        "split: mixer.group_norm: GroupNorm(groups=2, eps=1e-5) mixes target positions (axis 2 of f32[batch, 8, dec]), so a \
         step would not equal the whole pass"
    );
}

#[test]
fn a_convolution_over_target_positions_is_refused_unless_its_kernel_is_one_place() {
    let conv = |k: usize, pad: usize| {
        decoder(move |b, x| {
            let w = weight(b, "kernel", &[8, 8, k]);
            channels_first(channels_first(x).conv(w, None, 1, pad, Some(DEC)))
        })
    };
    assert_eq!(
        refusal(conv(3, 1)),
        "split: conv: Conv(stride=1, pad=1) mixes target positions (axis 2 of f32[batch, 8, dec]), so a step would not equal \
         the whole pass"
    );
    let source = Feeds::from([("input_ids".into(), ids([2, 3], &[4, 5, 6, 7, 8, 0]))]);
    step_by_step(conv(1, 0), &source, [0, 0, 2]);
}

#[test]
fn a_sum_over_target_positions_is_refused() {
    let linear_attention = decoder(|_, x| x.matmul(channels_first(x).matmul(x)));
    assert_eq!(
        refusal(linear_attention),
        "split: mat_mul: MatMul mixes target positions (axis 2 of f32[batch, 8, dec]), so a step would not equal the whole pass"
    );
    let scores_first = decoder(|_, x| x.matmul(channels_first(x)).matmul(x));
    assert_eq!(
        refusal(scores_first),
        "split: mat_mul: MatMul pairs target positions with each other (f32[batch, dec, dec]), so a step would not equal the \
         whole pass"
    );
    let mean = decoder(|b, x| x + b.scalar(0.25).broadcast([1.into(), DEC.into()]).matmul(x));
    assert!(refusal(mean).starts_with("split: mat_mul: MatMul mixes target positions (axis 1 of f32[1, dec])"));
}

#[test]
fn one_position_for_all_and_positions_from_the_start_are_refused() {
    let first = decoder(|_, x| x + x.slice(1, 0, 1, 1));
    assert_eq!(
        refusal(first),
        "split: slice: Slice(axis=1, start=0, step=1, len=1) mixes target positions (axis 1 of f32[batch, dec, 8]), so a step \
         would not equal the whole pass"
    );
    let learned = decoder(|b, x| x + weight(b, "learned", &[9, 8]).slice(0, 0, 1, DEC));
    assert_eq!(
        refusal(learned),
        "split: slice: Slice(axis=0, start=0, step=1, len=dec) has target positions that no argument tells (axis 0 of f32[dec, \
         8]), so a step would not equal the whole pass"
    );
}

#[test]
fn an_attention_that_may_see_later_keys_is_refused() {
    let why = "may see keys after its query, which no causal mask hides, so a step would not equal the whole pass";
    let ahead = Visible { before: None, after: Some(1) };
    assert!(refusal(attending(|_, x| x, |_| None)).ends_with(why));
    assert!(refusal(attending(|_, x| x, |b| Some(b.mask(ahead, 0, DEC, DEC)))).ends_with(why));
    let window = Visible { before: Some(1), after: Some(0) };
    let source = Feeds::from([("input_ids".into(), ids([2, 3], &[4, 5, 6, 7, 8, 0]))]);
    step_by_step(attending(|_, x| x, |b| Some(b.mask(window, 0, DEC, DEC) + 0.5)), &source, [0, 0, 2]);
}

#[test]
fn keys_that_follow_from_target_positions_alone_are_refused() {
    let placed = decoder(|b, x| {
        let places = b.positions(0, DEC).embed(weight(b, "places", &[9, 4]));
        let keys = places.broadcast([BATCH.into(), 2.into(), DEC.into(), 4.into()]);
        x + x.heads(2).attention(keys, keys, None, 0.5, None).merge_heads()
    });
    assert_eq!(
        refusal(placed),
        "split: broadcast: expected keys of the source, which stay from step to step, found f32[batch, 2, dec, 4]"
    );
}
