//! Writing tokens into pages.

use super::{HEAD_DIM_MAX, KvKind, KvLayout, KvStore, PAGE_TOKENS, PageId};
use crate::Pool;
use crate::simd::{HALF, LANES, Simd, kernel};

/// The largest finite number of half precision.
const HALF_MAX: f32 = 65504.0;

/// Consecutive tokens that go to one page.
pub(super) struct Task {
    pub(super) page: PageId,
    pub(super) slot: usize,
    pub(super) tokens: usize,
    pub(super) first_row: usize,
}

/// Where a layer's pages start, for threads that write different pages of it.
struct LayerStart(*mut u8);

// SAFETY: threads write through it to bytes of different pages.
unsafe impl Sync for LayerStart {}

impl LayerStart {
    /// # Safety
    /// `start + bytes` lies within the layer, and nobody else has a reference to these bytes.
    #[allow(clippy::mut_from_ref)]
    unsafe fn part(&self, start: usize, bytes: usize) -> &mut [u8] {
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), bytes) }
    }
}

/// Writes tasks, no two of which have the same page.
pub(super) fn write(
    store: &mut KvStore,
    pool: &Pool,
    layer: usize,
    tasks: &[Task],
    keys: &[f32],
    values: &[f32],
) {
    let layout = store.layout;
    let KvLayout { kv_heads, head_dim, .. } = layout;
    let (bytes, width) = (store.head_bytes(), kv_heads * head_dim);
    let starts: Vec<usize> = tasks.iter().map(|task| store.head_start(layer, task.page, 0)).collect();
    let memory = LayerStart(store.memory.as_mut_ptr());
    pool.for_each(tasks.len(), &|i| {
        let Task { slot, tokens, first_row, .. } = tasks[i];
        for head in 0..kv_heads {
            // SAFETY: `head_start` found the page inside the store, which is borrowed for writing; pages of tasks are
            // different ones, and heads of a page do not overlap.
            let target = unsafe { memory.part(starts[i] + head * bytes, bytes) };
            for token in 0..tokens {
                let at = (first_row + token) * width + head * head_dim;
                let row = at..at + head_dim;
                write_token(pool.isa(), layout, target, slot + token, &keys[row.clone()], &values[row]);
            }
        }
    });
}

kernel! {
    /// Writes one head's key and value of one token into its part of a page.
    pub(super) fn write_token(
        layout: KvLayout, target: &mut [u8], slot: usize, key: &[f32], value: &[f32]
    ) = token;
}

#[inline(always)]
fn token<S: Simd>(s: S, layout: KvLayout, target: &mut [u8], slot: usize, key: &[f32], value: &[f32]) {
    let (keys, values) = target.split_at_mut(target.len() / 2);
    let dim = layout.head_dim;
    match layout.kind {
        KvKind::F16 => {
            let mut row = [0; HEAD_DIM_MAX];
            to_halves(s, key, &mut row);
            for (column, code) in keys.as_chunks_mut::<{ 2 * PAGE_TOKENS }>().0.iter_mut().zip(row) {
                column[2 * slot..2 * slot + 2].copy_from_slice(&code.to_ne_bytes());
            }
            to_halves(s, value, &mut row);
            let place = values[2 * slot * dim..2 * (slot + 1) * dim].as_chunks_mut::<2>().0;
            for (place, code) in place.iter_mut().zip(row) {
                *place = code.to_ne_bytes();
            }
        }
        KvKind::F32 => put_floats(keys, values, slot, key, value),
        KvKind::Q8 => {
            let (codes, scales) = keys.split_at_mut(dim * PAGE_TOKENS);
            let mut row = [0; HEAD_DIM_MAX];
            put_scale(scales, slot, to_bytes(s, key, &mut row));
            for (column, code) in codes.as_chunks_mut::<PAGE_TOKENS>().0.iter_mut().zip(row) {
                column[slot] = code as u8;
            }
            let (codes, scales) = values.split_at_mut(dim * PAGE_TOKENS);
            put_scale(scales, slot, to_bytes(s, value, &mut row));
            for (place, code) in codes[slot * dim..(slot + 1) * dim].iter_mut().zip(row) {
                *place = code as u8;
            }
        }
    }
}

/// Puts what is not converted in its place.
fn put_floats(keys: &mut [u8], values: &mut [u8], slot: usize, key: &[f32], value: &[f32]) {
    for (column, number) in keys.as_chunks_mut::<{ 4 * PAGE_TOKENS }>().0.iter_mut().zip(key) {
        column[4 * slot..4 * slot + 4].copy_from_slice(&number.to_ne_bytes());
    }
    let place = &mut values[4 * slot * value.len()..4 * (slot + 1) * value.len()];
    for (place, number) in place.as_chunks_mut::<4>().0.iter_mut().zip(value) {
        *place = number.to_ne_bytes();
    }
}

fn put_scale(scales: &mut [u8], slot: usize, scale: f32) {
    scales[4 * slot..4 * slot + 4].copy_from_slice(&scale.to_ne_bytes());
}

/// A row's vectors, the last of which may be half a one: its place, and the numbers.
#[inline(always)]
fn vector<S: Simd>(s: S, row: &[f32], at: usize) -> S::V {
    match row[at..].first_chunk::<LANES>() {
        Some(whole) => s.load(whole),
        None => s.load_low(row[at..].first_chunk::<HALF>().unwrap_or(&[0.0; HALF])),
    }
}

#[inline(always)]
fn to_halves<S: Simd>(s: S, row: &[f32], out: &mut [u16; HEAD_DIM_MAX]) {
    for (i, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate().take(row.len().div_ceil(LANES)) {
        let v = vector(s, row, LANES * i);
        s.store_f16(out, s.max(s.splat(-HALF_MAX), s.min(s.splat(HALF_MAX), v)));
    }
}

/// Codes and their scale. A number that is none makes the scale none.
#[inline(always)]
fn to_bytes<S: Simd>(s: S, row: &[f32], out: &mut [i8; HEAD_DIM_MAX]) -> f32 {
    let mut magnitude = s.splat(0.0);
    let mut sum = s.splat(0.0);
    for i in 0..row.len().div_ceil(LANES) {
        let v = vector(s, row, LANES * i);
        magnitude = s.max(s.abs(v), magnitude);
        sum = s.add(sum, v);
    }
    let magnitude = s.largest(magnitude).min(f32::MAX);
    let (scale, inverse) = match 0.0 < magnitude {
        true => (magnitude / 127.0, 127.0 / magnitude),
        false => (0.0, 0.0),
    };
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    for (i, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate().take(row.len().div_ceil(LANES)) {
        let mut codes = [0.0; LANES];
        s.store(&mut codes, s.round(s.mul(vector(s, row, LANES * i), s.splat(inverse))));
        *out = codes.map(|code| code as i8);
    }
    match s.sum(sum).is_nan() {
        true => f32::NAN,
        false => scale,
    }
}
