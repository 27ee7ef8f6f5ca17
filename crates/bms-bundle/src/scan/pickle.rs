//! Python pickles: programs for a stack machine whose operations import and call anything.
//!
//! The walker runs every operation on values that stand for the real ones, without importing or
//! calling. It is a default-deny: each import is compared, by its full dotted path, with a list of
//! those that only rebuild data. Names that are not constants, operations that fail, and anything
//! after the end are findings, because the loader has run what came before.
//!
//! Source: CPython's `Lib/pickle.py`, `Lib/pickletools.py` and `Modules/_pickle.c`.

mod array;
mod globals;
mod machine;
mod opcode;
mod text;
mod value;

use std::sync::LazyLock;

use aho_corasick::packed::Searcher;

use crate::Severity;
use crate::scan::context::Context;
use crate::scan::format;
use machine::{End, Machine};

/// Streams in one file. Legacy torch checkpoints have five.
const STREAMS_MAX: usize = 10_000;
/// Places after a stream at which another one is looked for: raw numbers have one in 16 KiB.
const RESTARTS_MAX: usize = 1 << 20;
/// Operations that are followed at all of them together.
const RESTART_OPERATIONS_MAX: u64 = 50_000_000;
/// What a finding costs, in operations.
const FINDING_OPERATIONS: u64 = 5000;
/// Operations that are followed to find out whether a place is a stream.
const TRIAL_OPERATIONS_MAX: u64 = 10_000;

/// Whether `bytes` are a pickle: it ends, or does something a pickle can do and data cannot.
pub(crate) fn is_pickle(bytes: &[u8]) -> bool {
    let framed = matches!(bytes, [0x80, 2..=5, ..]);
    let mut context = Context::new("");
    let mut machine = Machine::new(bytes, 0, &mut context);
    if framed {
        machine = machine.with_operations(TRIAL_OPERATIONS_MAX);
    }
    match machine.run() {
        // No text makes containers inside containers by the hundred.
        End::Fault { .. } if machine.grown => true,
        End::Stop => framed || machine.imports || !format::is_text(bytes),
        End::Fault { bomb, truncated } => {
            machine.imports && (framed || machine.calls) || framed && (bomb || truncated)
        }
    }
}

/// Whether an import of this name only rebuilds data.
pub(crate) fn is_data(module: &str, name: &str) -> bool {
    globals::judge(module, name).is_none()
}

/// Scans every stream in `bytes`.
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    let mut at = 0;
    for _ in 0..STREAMS_MAX {
        let mut machine = Machine::new(bytes, at, context);
        let end = machine.run();
        at = machine.position();
        match end {
            // Whatever stopped the walker has been reported; a loader stopped there as well.
            End::Fault { .. } => return,
            End::Stop if at == bytes.len() => return,
            End::Stop => {}
        }
        match restart(bytes, at, context) {
            Some(next) => at = next,
            None => return,
        }
    }
    context.attack("pickle-streams", Severity::Medium, "", "the file holds too many pickles to be scanned");
}

/// Where the next stream after `from` begins. Files may go on with raw data, and a loader may be
/// called again at any place, so each place that could be a stream is tried.
fn restart(bytes: &[u8], from: usize, context: &mut Context) -> Option<usize> {
    if is_pickle(&bytes[from..]) {
        return Some(from);
    }
    search(bytes, from, context)
}

/// Looks for a stream anywhere in a file of an unknown format, which may begin with anything.
pub(crate) fn scan_hidden(bytes: &[u8], context: &mut Context) {
    if let Some(at) = search(bytes, 0, context) {
        scan(&bytes[at..], context);
    }
}

/// The next stream that would import and call what is not allowed.
fn search(bytes: &[u8], from: usize, context: &mut Context) -> Option<usize> {
    let mut trial = Trial { bytes, operations_left: RESTART_OPERATIONS_MAX };
    let Some(at) = trial.framed(from).or_else(|| trial.lines(from)) else {
        if trial.operations_left == 0 {
            let message = "too many places after the pickle look like another one";
            context.attack("pickle-streams", Severity::Medium, "", message);
        }
        return None;
    };
    let message = "another pickle follows after raw bytes";
    context.attack("pickle-hidden", Severity::High, &format!("byte {at}"), message);
    Some(at)
}

/// How streams of protocol 2 and later begin.
static FRAMES: LazyLock<Option<Searcher>> =
    LazyLock::new(|| Searcher::new([b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"]));

/// Where the next of them could be.
fn next_frame(bytes: &[u8]) -> Option<usize> {
    match &*FRAMES {
        Some(searcher) => searcher.find(bytes).map(|found| found.start()),
        // No vector instructions here.
        None => memchr::memchr_iter(0x80, bytes).find(|at| matches!(bytes.get(at + 1), Some(2..=5))),
    }
}

/// A search for streams in raw bytes, with limited work.
struct Trial<'a> {
    bytes: &'a [u8],
    operations_left: u64,
}

impl Trial<'_> {
    /// The first stream of protocol 2 or later that is denied.
    fn framed(&mut self, from: usize) -> Option<usize> {
        let mut at = from;
        for _ in 0..RESTARTS_MAX {
            at += next_frame(&self.bytes[at..])?;
            if self.denied(at)? {
                return Some(at);
            }
            at += 2;
        }
        None
    }

    /// The first stream of lines that is denied: `c`, a module, a name.
    fn lines(&mut self, from: usize) -> Option<usize> {
        let bytes = self.bytes;
        let mut start = from;
        for end in memchr::memchr_iter(b'\n', &bytes[from..]).map(|at| from + at) {
            // Two lines follow each other, of which the second is the name.
            let word = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.');
            if end.checked_sub(1).is_some_and(|at| word(&bytes[at])) && bytes.get(end + 1).is_some_and(word) {
                let module = bytes[start..end].iter().rev().take_while(|c| word(c));
                // The module's own letters may include a `c`, so each one is tried.
                let places = (end - module.count()..end).filter(|at| bytes[*at] == b'c');
                for at in places.take(8) {
                    if self.denied(at)? {
                        return Some(at);
                    }
                }
            }
            start = end + 1;
        }
        None
    }

    /// Whether a stream at `at` would import and call what is not allowed. Raw numbers look like
    /// the start of a stream now and then, but not like that. `None` when the work is used up.
    fn denied(&mut self, at: usize) -> Option<bool> {
        let operations = TRIAL_OPERATIONS_MAX.min(self.operations_left);
        if operations == 0 {
            return None;
        }
        let mut context = Context::new("");
        let mut machine = Machine::new(self.bytes, at, &mut context).with_operations(operations);
        // How it ends does not matter: nearly every trial ends with an error.
        let _end = machine.run();
        let left = machine.operations_left();
        let calls = machine.imports && machine.calls;
        let attacks = context.attacks();
        // Raw numbers come to one error at most, so whatever costs more is not raw numbers.
        let findings = (attacks as u64).saturating_sub(1) * FINDING_OPERATIONS;
        self.operations_left = self.operations_left.saturating_sub(operations - left + findings);
        // Going on for so long without an error is no accident either.
        Some(left == 0 || calls && 0 < attacks)
    }
}
