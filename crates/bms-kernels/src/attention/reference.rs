//! Attention as its definition says, in 64-bit arithmetic: what the fast kernels are tested against.

use half::f16;

use super::{AttendParams, AttendSeq};
use crate::kv::{HeadPage, PAGE_TOKENS};
use crate::{KvKind, KvLayout, KvStore};

pub(super) fn attend(
    store: &KvStore,
    layer: usize,
    sequences: &[AttendSeq<'_>],
    queries: &[f32],
    out: &mut [f64],
    params: &AttendParams,
) {
    let KvLayout { kv_heads, head_dim, .. } = store.layout();
    for sequence in sequences {
        for row in 0..sequence.rows {
            for head in 0..params.heads {
                let at = ((sequence.first_row + row) * params.heads + head) * head_dim;
                let kv_head = head / (params.heads / kv_heads);
                let query = &queries[at..at + head_dim];
                let mixed = attend_one(store, layer, sequence, kv_head, sequence.start + row, query, params);
                out[at..at + head_dim].copy_from_slice(&mixed);
            }
        }
    }
}

fn attend_one(
    store: &KvStore,
    layer: usize,
    sequence: &AttendSeq<'_>,
    kv_head: usize,
    position: usize,
    query: &[f32],
    params: &AttendParams,
) -> Vec<f64> {
    let layout = store.layout();
    let visible = |token: usize| {
        (!params.causal || token <= position)
            && params.window.is_none_or(|window| token.abs_diff(position) < window)
    };
    let tokens: Vec<usize> = (0..sequence.start + sequence.rows).filter(|token| visible(*token)).collect();
    let page = |token: usize| store.head(layer, sequence.pages[token / PAGE_TOKENS], kv_head);
    let scores: Vec<f64> = tokens
        .iter()
        .map(|&token| {
            let head = page(token);
            let dot = |d: usize| f64::from(query[d]) * key(layout, head, token % PAGE_TOKENS, d);
            let score = (0..layout.head_dim).map(dot).sum::<f64>() * f64::from(params.scale);
            params.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
        })
        .collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut out = vec![0.0; layout.head_dim];
    for (&token, weight) in tokens.iter().zip(&weights) {
        let head = page(token);
        for (d, out) in out.iter_mut().enumerate() {
            *out += weight / total * value(layout, head, token % PAGE_TOKENS, d);
        }
    }
    out
}

fn key(layout: KvLayout, head: HeadPage<'_>, slot: usize, d: usize) -> f64 {
    stored(layout, head.keys, d * PAGE_TOKENS + slot)
        * f64::from(head.key_scales.get(slot).copied().unwrap_or(1.0))
}

fn value(layout: KvLayout, head: HeadPage<'_>, slot: usize, d: usize) -> f64 {
    stored(layout, head.values, slot * layout.head_dim + d)
        * f64::from(head.value_scales.get(slot).copied().unwrap_or(1.0))
}

fn stored(layout: KvLayout, codes: &[u8], at: usize) -> f64 {
    match layout.kind {
        KvKind::F16 => f16::from_ne_bytes([codes[2 * at], codes[2 * at + 1]]).to_f64(),
        KvKind::Q8 => f64::from(codes[at] as i8),
        KvKind::F32 => {
            let number = [codes[4 * at], codes[4 * at + 1], codes[4 * at + 2], codes[4 * at + 3]];
            f64::from(f32::from_ne_bytes(number))
        }
    }
}
