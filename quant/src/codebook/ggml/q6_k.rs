//! `Q6_K`: per 16 weights an 8-bit scale, found by 19 trials around the weight farthest from zero.
//!
//! A squared error counts w², or the importance of the channel, then without regard to w.

use graph::ggml::GgmlType;
use half::f16;

use super::block_type::{BlockType, each_block, each_block_by_importance, integer, set_each};
use super::k_search::{nearest_int, symmetric, transposed, vanishes};
use super::parts::{Step, farthest, half_at};

/// Half of the codes.
const SIDE: f32 = 32.0;

pub(super) const TYPE: BlockType = BlockType {
    kind: GgmlType::Q6K,
    encode: |row, out| each_block(row, out, block),
    encode_by_importance: |row, importance, out| each_block_by_importance(row, importance, out, block_by_importance),
    shared: 16,
    nearest: integer::<{ -32 }, 31>,
    push_steps: |block, steps| {
        let d = half_at(block, 208);
        steps.extend(block[192..208].iter().map(|&s| Step { scale: d * f32::from(s as i8), offset: 0.0 }));
    },
    set_unit_steps: |block| {
        block[192..208].fill(1);
        block[208..].copy_from_slice(&f16::ONE.to_le_bytes());
    },
    set_codes: |codes, blocks| set_each(codes, 32, blocks, set_codes),
    scale: |block| half_at(block, 208),
};

fn block(x: &[f32; 256], out: &mut [u8; 210]) {
    block_by_importance(x, &x.map(|v| v * v), out);
}

fn block_by_importance(x: &[f32; 256], importance: &[f32; 256], out: &mut [u8; 210]) {
    let found = [0, 128].map(|at| {
        let half = at..at + 128;
        symmetric(&transposed::<16>(&x[half.clone()]), &transposed::<16>(&importance[half]), SIDE)
    });
    let fits: [f32; 16] = std::array::from_fn(|j| found[j / 8].scale[j % 8]);
    let far = farthest(&fits);
    if vanishes(far) {
        return out.fill(0);
    }
    // The largest scale is stored as -128, whatever its sign.
    let inverse = -128.0 / far;
    let d = f16::from_f32(1.0 / inverse);
    let scales = fits.map(|fit| nearest_int(inverse * fit).min(127) as i8);

    let mut codes = [0; 256];
    let sub_blocks = x.as_chunks::<16>().0.iter().zip(codes.as_chunks_mut::<16>().0);
    for (j, (x, codes)) in sub_blocks.enumerate() {
        let scale = d.to_f32() * f32::from(scales[j]);
        *codes = if scale == 0.0 {
            found[j / 8].codes(j % 8, x)
        } else {
            x.map(|v| (nearest_int(v / scale).clamp(-32, 31) + 32) as u8)
        };
    }

    set_codes(&codes, out);
    for (out, scale) in out[192..208].iter_mut().zip(scales) {
        *out = scale as u8;
    }
    out[208..].copy_from_slice(&d.to_le_bytes());
}

fn set_codes(codes: &[u8; 256], out: &mut [u8; 210]) {
    for (half, codes) in codes.as_chunks::<128>().0.iter().enumerate() {
        for i in 0..64 {
            out[64 * half + i] = codes[i] & 15 | codes[i + 64] << 4;
        }
        for i in 0..32 {
            out[128 + 32 * half + i] = (0..4).fold(0, |bits, b| bits | codes[32 * b + i] >> 4 << (2 * b));
        }
    }
}
