//! Speed of attention by the shape of heads, kind of storage and instruction set.
//!
//! `cargo run --release -p bms-kernels --example attention [THREADS] [ISA…] [decode] [prefill] [f16] [q8] [8x4x128…]` prints
//! operations and bytes of keys and values a second, and their shares of what the machine multiplies and adds at most, and
//! reads from memory; one row of each sequence (decode) is bound by the bytes, many rows (prefill) by the operations. With
//! one thread its processor time is what counts, which other programs disturb less.

use std::time::{Duration, Instant};

use bms_kernels::{
    AttendParams, AttendSeq, Isa, KvKind, KvLayout, KvStore, PAGE_TOKENS, PageId, Pool, attend, probe,
};

/// Heads of keys, heads of queries for each, dimension of a head.
const HEADS: &[(usize, usize, usize)] = &[(3, 3, 64), (8, 4, 64), (8, 4, 128), (2, 7, 128), (8, 1, 96)];
/// Sequences, tokens before the rows of each, rows of each.
const SHAPES: &[(usize, usize, usize)] = &[(1, 4095, 1), (16, 1023, 1), (1, 0, 512), (1, 3584, 512)];

fn main() {
    let mut args = std::env::args().skip(1);
    let threads = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(2);
    let names: Vec<String> = args.collect();
    // A name that is not given excludes nothing when none of its kind is.
    let wanted = |name: &str, all: &[&str]| {
        names.iter().any(|n| n == name) || !names.iter().any(|n| all.contains(&n.as_str()))
    };
    let isas: Vec<&str> = Isa::ALL.iter().map(|isa| isa.as_str()).collect();
    let heads: Vec<String> = HEADS.iter().map(|(kv, group, dim)| format!("{kv}x{group}x{dim}")).collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let read = probe::ReadProbe::new(400_000_000).expect("the memory is there");
    println!(
        "{:8} {:4} {:>9} {:>12} {:>9} {:>8} {:>6} {:>7} {:>7}",
        "isa", "kind", "heads", "sequences", "time", "GFLOP/s", "GB/s", "of mul", "of read"
    );
    for isa in Isa::available() {
        if !wanted(isa.as_str(), &isas) {
            continue;
        }
        let pool = Pool::new(threads, isa);
        let peak = probe::f32_peak(&pool, 3).best;
        let bandwidth = read.bandwidth(&pool, 5).median;
        for (kind, kind_name) in [(KvKind::F16, "f16"), (KvKind::Q8, "q8")] {
            for (&(kv_heads, group, head_dim), heads_name) in HEADS.iter().zip(&heads) {
                for &shape in SHAPES {
                    let phase = if shape.2 == 1 { "decode" } else { "prefill" };
                    if !wanted(kind_name, &["f16", "q8"])
                        || !wanted(heads_name, &heads)
                        || !wanted(phase, &["decode", "prefill"])
                    {
                        continue;
                    }
                    let layout = KvLayout { kv_heads, head_dim, kind };
                    let (seconds, operations, bytes) = measure(&pool, layout, group, shape);
                    println!(
                        "{:8} {:4} {:>9} {:>12} {:7.0}µs {:8.1} {:6.1} {:6.0}% {:6.0}%",
                        isa.as_str(),
                        kind_name,
                        heads_name,
                        format!("{}x{}+{}", shape.0, shape.1, shape.2),
                        seconds * 1e6,
                        operations / seconds / 1e9,
                        bytes / seconds / 1e9,
                        operations / seconds / peak * 100.0,
                        bytes / seconds / bandwidth * 100.0,
                    );
                }
            }
        }
    }
}

/// The median time of a layer, its operations, and the bytes of keys and values its rows see.
fn measure(
    pool: &Pool,
    layout: KvLayout,
    group: usize,
    (count, start, rows): (usize, usize, usize),
) -> (f64, f64, f64) {
    let KvLayout { kv_heads, head_dim, .. } = layout;
    let (heads, tokens) = (kv_heads * group, start + rows);
    let pages = tokens.div_ceil(PAGE_TOKENS);
    // Layers enough that no cache holds them all, as in a model.
    let layer_bytes = layout.page_bytes().unwrap_or(1) * pages * count;
    let layers = (100_000_000 / layer_bytes).clamp(1, 32);
    let mut store = KvStore::new(layers, pages * count, layout).expect("the memory is there");
    let ids: Vec<PageId> = (0..(pages * count) as PageId).collect();
    let numbers =
        |len: usize| -> Vec<f32> { (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect() };
    let all: Vec<AttendSeq<'_>> = ids
        .chunks(pages)
        .enumerate()
        .map(|(i, pages)| AttendSeq { pages, start: 0, rows: tokens, first_row: i * tokens })
        .collect();
    let keys = numbers(count * tokens * kv_heads * head_dim);
    for layer in 0..layers {
        store.write_rows(pool, layer, &all, &keys, &keys);
    }
    let sequences: Vec<AttendSeq<'_>> = ids
        .chunks(pages)
        .enumerate()
        .map(|(i, pages)| AttendSeq { pages, start, rows, first_row: i * rows })
        .collect();
    let queries = numbers(count * rows * heads * head_dim);
    let mut out = vec![0.0; queries.len()];
    let params = AttendParams { heads, scale: 0.1, window: None, softcap: None, causal: true };
    let mut times: Vec<Duration> = Vec::new();
    let began = Instant::now();
    while times.len() < 3 || began.elapsed() < Duration::from_millis(100) {
        let begin = now(pool.threads());
        for layer in 0..layers {
            attend(pool, &store, layer, &sequences, &queries, &mut out, &params);
        }
        times.push(now(pool.threads()) - begin);
    }
    times.sort();
    let seen: usize = (0..rows).map(|row| start + row + 1).sum();
    let operations = 4.0 * (count * heads * head_dim * seen) as f64;
    let bytes = (count * tokens * store.bytes_per_token() / layers) as f64;
    (times[times.len() / 2].as_secs_f64() / layers as f64, operations, bytes)
}

/// The time: this thread's when it works alone.
fn now(threads: usize) -> Duration {
    let clock = if threads == 1 { libc::CLOCK_THREAD_CPUTIME_ID } else { libc::CLOCK_MONOTONIC };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the value it is given.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
