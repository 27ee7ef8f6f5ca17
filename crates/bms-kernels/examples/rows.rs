//! Speed of what is computed row by row, by instruction set, on one thread's processor time.
//!
//! `cargo run --release -p bms-kernels --example rows [NAME…]` prints numbers a second of each operation, in billions.

use std::time::{Duration, Instant};

use bms_kernels::{
    Activation, Format, Isa, Pool, Rope, RopeStyle, Rotations, activate, add, argmax, dequantise_row_with,
    dot, gate, gemm_f32, layer_norm, log_sum_exp, quantise_row_with, rms_norm, softmax,
};

/// Numbers of an operation; a few rows' that stay in the second-level cache.
const LEN: usize = 32 * COLS;
/// Numbers of a row.
const COLS: usize = 2048;

fn main() {
    let names: Vec<String> = std::env::args().skip(1).collect();
    println!("{:20} {:>8} {:>8}", "operation", "isa", "G/s");
    for isa in Isa::available() {
        let pool = Pool::new(1, isa);
        let x: Vec<f32> = (0..LEN).map(|i| ((i * 37 % 1001) as f32 - 500.0) / 250.0).collect();
        let weight = &x[..COLS];
        let mut out = x.clone();
        let report = |name: &str, numbers: usize, f: &mut dyn FnMut()| {
            if names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str())) {
                println!("{name:20} {:>8} {:8.3}", isa.as_str(), numbers as f64 / seconds(f) / 1e9);
            }
        };
        report("rms_norm", LEN, &mut || rms_norm(&pool, &x, weight, 1e-5, &mut out));
        report("layer_norm", LEN, &mut || layer_norm(&pool, &x, weight, Some(weight), 1e-5, &mut out));
        for activation in [Activation::Silu, Activation::Gelu, Activation::GeluTanh] {
            report(&format!("{activation:?}"), LEN, &mut || activate(&pool, activation, &mut out));
            report(&format!("{activation:?} gate"), LEN, &mut || gate(&pool, activation, &mut out, &x));
        }
        report("softmax", LEN, &mut || softmax(&pool, &mut out, COLS));
        report("log_sum_exp", LEN, &mut || keep(log_sum_exp(isa, &x)));
        report("argmax", LEN, &mut || keep(argmax(isa, &x)));
        report("add", LEN, &mut || add(&pool, &mut out, &x));
        report("dot", LEN, &mut || keep(dot(isa, &x, &out)));
        for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
            let mut rotations = Rotations::default();
            rotations.set(&pool, &Rope::new(style, 64, 1e4, &[], 1.0), &[77; LEN / COLS]);
            report(&format!("rope {style:?}"), LEN, &mut || rotations.apply(&pool, &mut out, 64));
        }
        let mut product = vec![0.0; 32 * 512];
        let weights = [weight; 512].concat();
        report("gemm 32x2048x512", 32 * 2048 * 512, &mut || {
            gemm_f32(&pool, &x, 32, &weights, COLS, &mut product);
        });
        for &format in Format::ALL {
            let mut bytes = vec![0; format.row_bytes(LEN).unwrap_or(0)];
            report(&format!("quantise {format}"), LEN, &mut || {
                quantise_row_with(isa, format, &x, &mut bytes)
            });
            report(&format!("dequantise {format}"), LEN, &mut || {
                dequantise_row_with(isa, format, &bytes, &mut out);
            });
        }
    }
}

fn keep<T>(value: T) {
    std::hint::black_box(value);
}

/// The shortest time of a call.
fn seconds(f: &mut dyn FnMut()) -> f64 {
    f();
    let began = Instant::now();
    let mut best = Duration::MAX;
    while began.elapsed() < Duration::from_millis(40) {
        let begin = now();
        for _ in 0..4 {
            f();
        }
        best = best.min((now() - begin) / 4);
    }
    best.as_secs_f64()
}

/// Processor time of this thread.
fn now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the value it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
