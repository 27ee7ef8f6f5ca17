//! Speed of products by format, rows of activations and instruction set.
//!
//! `cargo run --release -p bms-kernels --example products [THREADS] [FORMAT…] [ISA…]` prints operations and bytes a second; a
//! product with one row is bound by the bytes, one with 512 by the operations. With one thread its processor time is what
//! counts, which other programs disturb less.

use std::time::{Duration, Instant};

use bms_kernels::{Activations, Format, Isa, Matrix, Pool, matmul};

/// Enough weights that no cache holds them, in the shape of a model with some billion of them.
const SHAPE: (usize, usize, usize) = (2048, 5632, 24);

fn main() {
    let mut args = std::env::args().skip(1);
    let threads = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(2);
    let names: Vec<String> = args.collect();
    let named: Vec<Format> = names.iter().filter_map(|name| Format::parse(name)).collect();
    let isas: Vec<Isa> = names.iter().filter_map(|name| Isa::parse(name)).collect();
    let formats = if named.is_empty() { Format::ALL } else { &named };
    println!("{:8} {:8} {:>5} {:>10} {:>8}", "format", "isa", "rows", "GOP/s", "GB/s");
    for format in formats {
        for isa in Isa::available().into_iter().filter(|isa| *isa != Isa::Scalar) {
            if !isas.is_empty() && !isas.contains(&isa) {
                continue;
            }
            let pool = Pool::new(threads, isa);
            for rows in [1, 4, 16, 128, 512] {
                let (seconds, bytes) = measure(&pool, *format, rows);
                let operations = 2.0 * rows as f64 * (SHAPE.0 * SHAPE.1 * layers(*format)) as f64;
                println!(
                    "{:8} {:8} {rows:5} {:10.0} {:8.1}",
                    format.as_str(),
                    isa.as_str(),
                    operations / seconds / 1e9,
                    bytes as f64 / seconds / 1e9
                );
            }
        }
    }
}

fn layers(format: Format) -> usize {
    if format.is_quantised() { SHAPE.2 } else { SHAPE.2 / 4 }
}

/// The median time of a pass over all matrices, and their bytes.
fn measure(pool: &Pool, format: Format, rows: usize) -> (f64, usize) {
    let (outputs, cols, _) = SHAPE;
    let block: Vec<u8> = (0..format.block_bytes()).map(|i| if i % 7 == 1 { 0x20 } else { i as u8 }).collect();
    let weights = block.repeat(outputs * cols / format.block_len());
    let matrices: Vec<Matrix> = (0..layers(format))
        .map(|_| Matrix::pack(pool, format, outputs, cols, &weights).expect("the shape fits the format"))
        .collect();
    let x: Vec<f32> = (0..rows * cols).map(|i| (i % 17) as f32 - 8.0).collect();
    let mut out = vec![0.0; rows * outputs];
    let mut activations = Activations::new();
    let mut times: Vec<Duration> = Vec::new();
    let start = Instant::now();
    while times.len() < 3 || start.elapsed() < Duration::from_millis(700) {
        let began = now(pool.threads());
        for matrix in &matrices {
            matmul(pool, &mut activations, &x, rows, &mut [(matrix, &mut out)]);
        }
        times.push(now(pool.threads()) - began);
    }
    times.sort();
    (times[times.len() / 2].as_secs_f64(), matrices.iter().map(Matrix::bytes).sum())
}

/// The time: this thread's when it works alone.
fn now(threads: usize) -> Duration {
    let clock = if threads == 1 { libc::CLOCK_THREAD_CPUTIME_ID } else { libc::CLOCK_MONOTONIC };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the value it is given.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
