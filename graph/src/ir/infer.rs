//! The type of an op's result.

use super::op::{Granularity, Op, Rope};
use super::ty::{DType, Dim, Type};

impl Op {
    /// The type of the result. Errors: one line that says what does not fit; the caller adds the place and the arguments.
    pub fn infer(&self, args: &[&Type]) -> Result<Type, String> {
        let arity = |counts: &[usize]| match counts.contains(&args.len()) {
            true => Ok(()),
            false => Err(format!("takes {counts:?} arguments, found {}", args.len())),
        };
        let float = |types: &[&Type]| match types.iter().all(|t| t.dtype == DType::F32) {
            true => Ok(()),
            false => Err("takes floats, found integers".to_owned()),
        };
        match self {
            Op::MatMul => {
                arity(&[2])?;
                float(args)?;
                let ([a_lead @ .., m, n], [b_lead @ .., n2, p]) = (&args[0].shape[..], &args[1].shape[..]) else {
                    return Err("takes two arguments of rank 2 or more".into());
                };
                if n != n2 {
                    return Err(format!("inner dimensions differ: {n} and {n2}"));
                }
                let mut shape = broadcast(a_lead, b_lead)?;
                shape.extend([m.clone(), p.clone()]);
                Ok(Type::f32(shape))
            }
            Op::Linear => {
                arity(&[2, 3])?;
                float(args)?;
                let ([lead @ .., e], [n, e2]) = (&args[0].shape[..], &args[1].shape[..]) else {
                    return Err("takes x[.., e] and w[n, e]".into());
                };
                if e != e2 {
                    return Err("input width differs from weight".into());
                }
                if args.get(2).is_some_and(|bias| bias.shape != [n.clone()]) {
                    return Err("bias is not [n]".into());
                }
                Ok(Type::f32(lead.iter().chain([n]).cloned()))
            }
            Op::Embed => {
                arity(&[2])?;
                float(&args[1..])?;
                let (DType::I64, [_, e]) = (args[0].dtype, &args[1].shape[..]) else {
                    return Err("takes ids i64[..] and table f32[n, e]".into());
                };
                Ok(Type::f32(args[0].shape.iter().chain([e]).cloned()))
            }
            Op::Binary(_) => {
                arity(&[2])?;
                float(args)?;
                Ok(Type::f32(broadcast(&args[0].shape, &args[1].shape)?))
            }
            Op::Unary(_) | Op::Softmax | Op::DynamicQuant(_) => {
                arity(&[1])?;
                float(args)?;
                if let Op::DynamicQuant(Granularity::Block(0)) = self {
                    return Err("blocks of 0".into());
                }
                match (self, args[0].shape.is_empty()) {
                    (Op::Unary(_), _) | (_, false) => Ok(args[0].clone()),
                    (_, true) => Err("takes rank 1 or more".into()),
                }
            }
            Op::Mean { axis } => {
                arity(&[1])?;
                float(args)?;
                let mut shape = args[0].shape.clone();
                let Some(n) = shape.get_mut(*axis).filter(|n| n.literal().is_some_and(|n| n > 0)) else {
                    return Err("takes an axis whose length is a number above 0".into());
                };
                *n = 1.into();
                Ok(Type::f32(shape))
            }
            Op::FakeQuant(steps) => {
                arity(&[1])?;
                float(args)?;
                steps.check()?;
                Ok(args[0].clone())
            }
            Op::RmsNorm { .. } => {
                arity(&[2])?;
                float(args)?;
                match (args[0].shape.last(), &args[1].shape[..]) {
                    (Some(e), [e2]) if e == e2 => Ok(args[0].clone()),
                    _ => Err("takes x[.., e] and w[e]".into()),
                }
            }
            Op::LayerNorm { .. } => {
                arity(&[2, 3])?;
                float(args)?;
                match args[0].shape.last() {
                    Some(e) if args[1..].iter().all(|w| w.shape == [e.clone()]) => Ok(args[0].clone()),
                    _ => Err("takes x[.., e], w[e] and bias[e]".into()),
                }
            }
            Op::GroupNorm { groups, .. } => {
                arity(&[3])?;
                float(args)?;
                let [_, c, _, ..] = &args[0].shape[..] else { return Err("takes x[b, c, ..]".into()) };
                let divides = c.literal().is_some_and(|c| *groups > 0 && c % groups == 0);
                match divides && args[1..].iter().all(|w| w.shape == [c.clone()]) {
                    true => Ok(args[0].clone()),
                    false => Err(format!("takes x[b, c, ..], w[c] and bias[c], c a multiple of {groups}")),
                }
            }
            Op::Conv { stride, pad, length } => {
                arity(&[2, 3])?;
                float(args)?;
                let ([b, c, n], [out, c2, k]) = (&args[0].shape[..], &args[1].shape[..]) else {
                    return Err("takes x[b, c, n] and w[o, c, k]".into());
                };
                if c != c2 {
                    return Err("channels differ from those of the weight".into());
                }
                if args.get(2).is_some_and(|bias| bias.shape != [out.clone()]) {
                    return Err("bias is not [o]".into());
                }
                let windows = |n: usize| {
                    let last = (n + 2 * pad).checked_sub(k.literal()?)?;
                    last.checked_div(*stride).map(|n| n + 1)
                };
                let n = match (n.literal(), length) {
                    (Some(n), _) => windows(n).ok_or("is longer than its input, or its stride is 0")?.into(),
                    (None, Some(length)) if *stride > 0 => Dim::from(*length),
                    (None, _) => return Err("needs a name for the length of its result, and a stride".into()),
                };
                Ok(Type::f32([b.clone(), out.clone(), n]))
            }
            Op::Conv2d { stride, pad, groups } => {
                arity(&[2])?;
                float(args)?;
                let ([b, c, lengths @ ..], [out, c2, kernel @ ..]) = (&args[0].shape[..], &args[1].shape[..]) else {
                    return Err("takes x[b, c, n, m] and w[o, c / groups, k, l]".into());
                };
                let divides = |n: &Dim| n.literal().is_some_and(|n| *groups > 0 && n % groups == 0);
                let fits = divides(c) && divides(out) && c.literal() == c2.literal().map(|c| c * groups);
                match (lengths.len(), kernel.len(), fits) {
                    (2, 2, true) => {}
                    (2, 2, false) => return Err(format!("channels do not divide into {groups} groups of the weight")),
                    _ => return Err("takes x[b, c, n, m] and w[o, c / groups, k, l]".into()),
                }
                let windows = |axis: usize| {
                    let last = (lengths[axis].literal()? + 2 * pad[axis]).checked_sub(kernel[axis].literal()?)?;
                    last.checked_div(stride[axis]).map(|n| Dim::from(n + 1))
                };
                let [Some(n), Some(m)] = [0, 1].map(windows) else {
                    return Err("is longer than its input, or its stride is 0, or a length is no number".into());
                };
                Ok(Type::f32([b.clone(), out.clone(), n, m]))
            }
            Op::Broadcast(to) => {
                arity(&[1])?;
                match broadcast(&args[0].shape, to)? == *to {
                    true => Ok(Type { dtype: args[0].dtype, shape: to.clone() }),
                    false => Err("would lose an axis".into()),
                }
            }
            Op::Slice { axis, start, step, len } => {
                arity(&[1])?;
                let mut shape = args[0].shape.clone();
                let Some(n) = shape.get_mut(*axis).filter(|_| *step > 0) else {
                    return Err("has no such axis, or a step of 0".into());
                };
                if let (Some(n), Some(len)) = (n.literal(), len.literal())
                    && len > 0
                    && start + (len - 1) * step >= n
                {
                    return Err("reaches past the end".into());
                }
                *n = len.clone();
                Ok(Type { dtype: args[0].dtype, shape })
            }
            Op::Select => {
                arity(&[3])?;
                float(&args[1..])?;
                let shape = broadcast(&broadcast(&args[0].shape, &args[1].shape)?, &args[2].shape)?;
                match args[0].dtype {
                    DType::I64 => Ok(Type::f32(shape)),
                    DType::F32 => Err("takes a choice of integers".to_owned()),
                }
            }
            Op::Positions { len, .. } => {
                arity(&[0])?;
                Ok(Type::i64([len.clone()]))
            }
            Op::Rope(Rope { dims, .. }) => {
                arity(&[2])?;
                float(&args[..1])?;
                let ([_, _, q, d], DType::I64, [q2]) = (&args[0].shape[..], args[1].dtype, &args[1].shape[..]) else {
                    return Err("takes x[b,h,q,d] and positions i64[q]".into());
                };
                match q == q2 && dims % 2 == 0 && *dims > 0 && d.literal().is_some_and(|d| *dims <= d) {
                    true => Ok(args[0].clone()),
                    false => Err("positions or width do not fit".into()),
                }
            }
            Op::Reshape(to) => {
                arity(&[1])?;
                if elements(&args[0].shape) != elements(to) {
                    return Err("element counts differ".into());
                }
                Ok(Type { dtype: args[0].dtype, shape: to.clone() })
            }
            Op::Transpose(perm) => {
                arity(&[1])?;
                let mut sorted = perm.clone();
                sorted.sort_unstable();
                if !sorted.into_iter().eq(0..args[0].shape.len()) {
                    return Err("the permutation does not name every axis once".into());
                }
                Ok(Type { dtype: args[0].dtype, shape: perm.iter().map(|&i| args[0].shape[i].clone()).collect() })
            }
            Op::Concat { axis } => {
                let Some((first, rest)) = args.split_first() else {
                    return Err("takes at least one argument".into());
                };
                let mut out = (*first).clone();
                for other in rest {
                    let same_elsewhere = other.dtype == first.dtype
                        && other.shape.len() == first.shape.len()
                        && (0..first.shape.len()).all(|i| i == *axis || other.shape[i] == first.shape[i]);
                    if !same_elsewhere || *axis >= first.shape.len() {
                        return Err("shapes differ outside the axis".into());
                    }
                    out.shape[*axis] = out.shape[*axis].clone() + other.shape[*axis].clone();
                }
                Ok(out)
            }
            Op::Mask { q, k, .. } => {
                arity(&[0])?;
                Ok(Type::f32([q.clone(), k.clone()]))
            }
            Op::PaddingMask { .. } => {
                arity(&[1])?;
                match (args[0].dtype, &args[0].shape[..]) {
                    (DType::I64, [b, k]) => Ok(Type::f32([b.clone(), 1.into(), 1.into(), k.clone()])),
                    _ => Err("takes i64[b, k]".into()),
                }
            }
            Op::RelativeBias { buckets, q, k, .. } => {
                arity(&[1])?;
                match &args[0].shape[..] {
                    [n, h] if n.literal() == Some(*buckets) => {
                        Ok(Type::f32([1.into(), h.clone(), q.clone(), k.clone()]))
                    }
                    _ => Err(format!("takes table[{buckets}, h]")),
                }
            }
            Op::Attention { .. } => {
                arity(&[3, 4])?;
                float(args)?;
                let ([b, h, q, d], [kb, kg, kk, kd], [vb, vg, vk, vd]) =
                    (&args[0].shape[..], &args[1].shape[..], &args[2].shape[..])
                else {
                    return Err("takes q[b,h,q,d] k[b,g,k,d] v[b,g,k,d]".into());
                };
                let divides = match (h.literal(), kg.literal()) {
                    (Some(h), Some(g)) => g > 0 && h % g == 0,
                    _ => h == kg,
                };
                if !(b == kb && b == vb && kg == vg && kk == vk && d == kd && divides) {
                    return Err("q, k and v do not fit each other".into());
                }
                if let Some(bias) = args.get(3) {
                    let scores = [b.clone(), h.clone(), q.clone(), kk.clone()];
                    if broadcast(&bias.shape, &scores)? != scores {
                        return Err("bias does not broadcast to [b,h,q,k]".into());
                    }
                }
                Ok(Type::f32([b.clone(), h.clone(), q.clone(), vd.clone()]))
            }
        }
    }
}

/// The shape of an elementwise result: axes aligned at the end, 1 stretches.
fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>, String> {
    let rank = a.len().max(b.len());
    let one = Dim::from(1);
    let axis = |shape: &[Dim], i: usize| (i + shape.len()).checked_sub(rank).map_or(one.clone(), |i| shape[i].clone());
    (0..rank)
        .map(|i| match (axis(a, i), axis(b, i)) {
            (x, y) if x == y || y == one => Ok(x),
            (x, y) if x == one => Ok(y),
            (x, y) => Err(format!("axis {i}: {x} and {y} do not broadcast")),
        })
        .collect()
}

/// The element count as a product: the known factor, and the symbolic ones sorted.
fn elements(shape: &[Dim]) -> (usize, Vec<Dim>) {
    let known = shape.iter().filter_map(Dim::literal).product();
    let mut symbolic: Vec<Dim> = shape.iter().filter(|d| d.literal().is_none()).cloned().collect();
    symbolic.sort();
    (known, symbolic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::fake_quant::FakeQuant;
    use crate::ir::op::Binary;
    use crate::ir::ty::{BATCH, DEC, ENC, PAST};

    #[test]
    fn dimensions_that_only_happen_to_be_equal_do_not_fit() {
        let x = Type::f32([Dim::from(BATCH), ENC.into(), 8.into()]);
        let y = Type::f32([Dim::from(BATCH), DEC.into(), 8.into()]);
        assert!(Op::Binary(Binary::Add).infer(&[&x, &y]).is_err());
        assert_eq!(Op::Concat { axis: 1 }.infer(&[&x, &y]).expect("joined").to_string(), "f32[batch, enc + dec, 8]");
    }

    #[test]
    fn reshape_moves_literal_factors_only() {
        let x = Type::f32([Dim::from(BATCH), DEC.into(), 12.into()]);
        assert!(Op::Reshape(vec![BATCH.into(), DEC.into(), 3.into(), 4.into()]).infer(&[&x]).is_ok());
        assert!(Op::Reshape(vec![BATCH.into(), 12.into()]).infer(&[&x]).is_err());
    }

    #[test]
    fn steps_that_no_engine_takes_are_refused() {
        let infer = |scale, zero, bits| {
            Op::FakeQuant(FakeQuant { scale, zero, bits })
                .infer(&[&Type::f32([Dim::from(DEC)])])
                .map(|ty| ty.to_string())
        };
        for (zero, bits) in [(0, 8), (255, 8), (0, 16), (65535, 16)] {
            assert_eq!(infer(f32::MIN_POSITIVE, zero, bits), Ok("f32[dec]".to_owned()));
        }
        for (scale, text) in [(0.0, "0"), (-1.0, "-1"), (f32::INFINITY, "inf"), (f32::NAN, "NaN")] {
            let message = format!("expected a scale that is finite and above 0, found {text}");
            assert_eq!(infer(scale, 0, 8), Err(message));
        }
        for bits in [0, 4, 7, 32, 255] {
            assert_eq!(infer(1.0, 0, bits), Err(format!("expected 8 or 16 bits, found {bits}")));
        }
        for (zero, bits, last) in [(-1, 8, 255), (256, 8, 255), (-1, 16, 65535), (65536, 16, 65535)] {
            assert_eq!(infer(1.0, zero, bits), Err(format!("expected a zero from 0 to {last}, found {zero}")));
        }
        let ids = Type::i64([Dim::from(DEC)]);
        let message = Op::FakeQuant(FakeQuant { scale: 1.0, zero: 0, bits: 8 }).infer(&[&ids]);
        assert_eq!(message, Err("takes floats, found integers".to_owned()));
    }

    #[test]
    fn grouped_heads_must_divide() {
        let t = |h: usize| Type::f32([Dim::from(BATCH), h.into(), DEC.into(), 4.into()]);
        let op = Op::Attention { scale: 1.0, softcap: None };
        assert!(op.infer(&[&t(6), &t(3), &t(3)]).is_ok());
        assert!(op.infer(&[&t(6), &t(4), &t(4)]).is_err());
        assert_eq!(Dim::from(PAST) + Dim::from(DEC), Dim::from(DEC) + Dim::from(PAST));
    }
}
