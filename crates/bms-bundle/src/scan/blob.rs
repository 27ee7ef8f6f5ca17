//! Programs between the numbers: every byte of weights is looked at.

use std::sync::LazyLock;

use aho_corasick::packed::{Config, MatchKind, Searcher};

use crate::Severity;
use crate::scan::Context;

/// Bytes that one thread looks through; a pass over less is not worth another thread.
const SHARE_BYTES: usize = 8 << 20;
/// Bytes two shares overlap, so that nothing is cut in two: the longest mark and what is checked behind it.
const OVERLAP_BYTES: usize = 64;
/// The farthest a Windows program's second header lies behind its first in what linkers make.
const STUB_BYTES_MAX: usize = 4096;
/// Threads of one pass.
const THREADS_MAX: usize = 8;

/// What programs have at or near their beginning.
const MARKS: [&[u8]; 8] = [
    b"\x7fELF",
    b"PE\0\0",
    b"MZqFpD",
    b"\xcf\xfa\xed\xfe",
    b"\xce\xfa\xed\xfe",
    b"\xfe\xed\xfa\xcf",
    b"\xfe\xed\xfa\xce",
    b"This program cannot be run in DOS mode",
];

static SEARCHER: LazyLock<Option<Searcher>> =
    LazyLock::new(|| Config::new().match_kind(MatchKind::LeftmostFirst).builder().extend(MARKS).build());

/// Reports the first program inside `bytes`. One at the very start is what the file is, and reported elsewhere.
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    if let Some((at, what)) = find(bytes) {
        let place = format!("byte {at}");
        let message = format!("{what} lies between the numbers");
        context.attack("embedded-executable", Severity::Critical, &place, message);
    }
}

/// The first program inside, by several threads when there is much to look through.
fn find(bytes: &[u8]) -> Option<(usize, &'static str)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (bytes.len() / SHARE_BYTES).clamp(1, THREADS_MAX.min(cores));
    if threads == 1 {
        return find_in(bytes, 0, bytes.len());
    }
    let share = bytes.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let searches: Vec<_> = (0..threads)
            .map(|index| {
                scope.spawn(move || find_in(bytes, index * share, ((index + 1) * share).min(bytes.len())))
            })
            .collect();
        let found = searches
            .into_iter()
            .map(|search| search.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        found.flatten().min()
    })
}

/// The first program whose mark begins in `from..to`.
fn find_in(bytes: &[u8], from: usize, to: usize) -> Option<(usize, &'static str)> {
    let end = (to + OVERLAP_BYTES).min(bytes.len());
    let mut at = from;
    while at < end {
        let found = next_mark(&bytes[at..end])? + at;
        if to <= found {
            return None;
        }
        if let Some(what) = program(bytes, found) {
            return Some((found, what));
        }
        at = found + 1;
    }
    None
}

fn next_mark(bytes: &[u8]) -> Option<usize> {
    match &*SEARCHER {
        Some(searcher) => searcher.find(bytes).map(|found| found.start()),
        // No vector instructions here: one mark after the other.
        None => MARKS.iter().filter_map(|mark| memchr::memmem::find(bytes, mark)).min(),
    }
}

/// What program has the mark at `at`, if the bytes around say that it is one.
fn program(bytes: &[u8], at: usize) -> Option<&'static str> {
    let rest = &bytes[at..];
    let word = |from: usize| rest.get(from..from + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    match rest[0] {
        // Class, byte order, version, and the padding that is always zero.
        0x7f => match rest.get(4..16)? {
            [1 | 2, 1 | 2, 1, 0..=18 | 64 | 97 | 255, _, 0, 0, 0, 0, 0, 0, 0] => Some("an ELF program"),
            _ => None,
        },
        b'P' => is_windows(bytes, at).then_some("a Windows program"),
        b'M' => matches!(rest.get(6)?, b'=' | b'\'').then_some("an APE program"),
        b'T' => {
            let header = &bytes[at.saturating_sub(128)..at];
            memchr::memmem::find(header, b"MZ").map(|_| "a Windows program")
        }
        magic => {
            let swap = |word: u32| if matches!(magic, 0xfe) { word.swap_bytes() } else { word };
            let (processor, kind) = (swap(word(4)?), swap(word(12)?));
            let known = matches!(processor & 0x00ff_ffff, 7 | 12 | 18) && processor >> 24 <= 2;
            (known && (1..=12).contains(&kind)).then_some("a Mach-O program")
        }
    }
}

/// Whether a first header before `at` points to the second one there.
fn is_windows(bytes: &[u8], at: usize) -> bool {
    let from = at.saturating_sub(STUB_BYTES_MAX);
    let before = &bytes[from..at];
    memchr::memmem::find_iter(before, b"MZ").any(|first| {
        let distance = before.len() - first;
        let field = before.get(first + 0x3c..first + 0x40);
        field.is_some_and(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize == distance)
    })
}
