//! Thousands of damaged files: no parser panics, runs away or grows without bound.

use std::time::{Duration, Instant};

use bms_bundle::signature::Envelope;
use bms_bundle::{Bundle, Manifest, Policy, scan};

use crate::samples::{self, signed};

/// Damaged copies of each file.
const ROUNDS: u64 = 3000;
/// A single scan of a few hundred bytes, in a debug build on a busy machine.
const SCAN_TIME_MAX: Duration = Duration::from_secs(5);

/// Xorshift, so that every run sees the same damage.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Flips, overwrites, cuts, repeats and inserts, one to four times.
fn damage(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(4) {
        if out.is_empty() {
            break;
        }
        let at = random.below(out.len());
        match random.below(6) {
            0 => out[at] ^= 1 << random.below(8),
            1 => out[at] = [0, 0xff, 0x7f, 0x80, b'"', b'{'][random.below(6)],
            2 => out.truncate(at),
            3 => {
                let end = (at + 8).min(out.len());
                out[at..end].fill(0xff);
            }
            4 => {
                let end = at + random.below(out.len() - at).min(64);
                let piece = out[at..end].to_vec();
                out.splice(at..at, piece);
            }
            _ => out.insert(at, random.next() as u8),
        }
    }
    out
}

fn mutate(bytes: &[u8], mut parse: impl FnMut(&[u8])) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..ROUNDS {
        let damaged = damage(bytes, &mut random);
        let started = Instant::now();
        parse(&damaged);
        assert!(started.elapsed() < SCAN_TIME_MAX, "{} bytes took {:?}", damaged.len(), started.elapsed());
    }
}

#[test]
fn damaged_models_are_scanned_without_a_panic() {
    let checkpoint = samples::zip(&[
        samples::entry("archive/data.pkl", &samples::pickle()),
        samples::entry("archive/data/0", &[1; 64]),
    ]);
    let template =
        samples::gguf_of(&[samples::gguf_text("tokenizer.chat_template", samples::TEMPLATE)], &[], &[]);
    let array =
        b"\x93NUMPY\x01\0\x46\0{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }           \n"
            .to_vec();
    let framed =
        b"\x80\x04\x95\x1a\0\0\0\0\0\0\0\x8c\x0bcollections\x94\x8c\x07Counter\x94\x93\x94.".to_vec();
    let lines = b"(dp0\nVx\np1\n(lp2\nI0\naI1\naS'q\\x41'\np3\nag1\nas.".to_vec();
    let settings = br#"{"chat_template":"{{ a }}","weight_map":{"a":"b"},"x":[1,{"y":null}]}"#.to_vec();
    for bytes in [
        samples::onnx(),
        samples::safetensors(),
        samples::gguf(),
        samples::pickle(),
        samples::hostile_pickle(),
        checkpoint,
        template,
        array,
        framed,
        lines,
        settings,
    ] {
        mutate(&bytes, |damaged| drop(scan::scan_file("file", damaged)));
    }
}

#[test]
fn damaged_compressed_files_are_scanned_without_a_panic() {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&samples::pickle()).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(&samples::onnx()).unwrap();
    for bytes in [gzip.finish().unwrap(), zlib.finish().unwrap()] {
        mutate(&bytes, |damaged| drop(scan::scan_file("file", damaged)));
    }
}

#[test]
fn damaged_files_of_other_formats_are_scanned_without_a_panic() {
    let samples = [
        crate::scan_container::samples(),
        crate::scan_hdf5::samples(),
        crate::scan_tensorflow::samples(),
        crate::scan_other::samples(),
    ];
    for bytes in samples.concat() {
        mutate(&bytes, |damaged| drop(scan::scan_file("file", damaged)));
        // Every place it can be cut at.
        for end in 0..bytes.len() {
            drop(scan::scan_file("file", &bytes[..end]));
        }
    }
}

#[test]
fn damaged_manifests_and_signatures_are_refused_without_a_panic() {
    let (files, _) = signed();
    let of = |name: &str| files.iter().find(|(path, _)| path == name).unwrap().1.clone();
    mutate(&of("bundle.json"), |damaged| drop(Manifest::parse(damaged)));
    mutate(&of("model.sig"), |damaged| drop(Envelope::parse(damaged)));
}

#[test]
fn damaged_bundles_are_never_admitted() {
    let (files, key) = signed();
    let policy = Policy::trusting(key.public(), "me");
    let mut random = Random(1);
    for round in 0..200 {
        let mut damaged = files.clone();
        let at = random.below(damaged.len());
        damaged[at].1 = damage(&files[at].1, &mut random);
        if damaged == files {
            continue;
        }
        let verdict = policy.verify(Bundle::from_files(damaged).unwrap());
        assert!(verdict.is_err(), "round {round}: a damaged {} was admitted", files[at].0);
    }
}
