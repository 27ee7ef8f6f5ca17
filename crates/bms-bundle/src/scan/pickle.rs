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

use crate::Severity;
use crate::scan::context::Context;
use crate::scan::format;
use machine::{End, Machine};

/// Streams in one file. Legacy torch checkpoints have five.
const STREAMS_MAX: usize = 10_000;
/// Places after a stream at which another one is looked for: raw numbers have one in 16 KiB.
const RESTARTS_MAX: usize = 1 << 20;
/// Operations that are followed to find out whether a place is a stream.
const TRIAL_OPERATIONS_MAX: u64 = 10_000;

/// Whether `bytes` are a pickle: it ends, or does something a pickle can do and data cannot.
pub(crate) fn is_pickle(bytes: &[u8]) -> bool {
    let mut context = Context::new("");
    let mut machine = Machine::new(bytes, 0, &mut context).with_operations(TRIAL_OPERATIONS_MAX);
    let end = machine.run();
    let framed = matches!(bytes, [0x80, 2..=5, ..]);
    match end {
        End::Stop => framed || machine.imports || !format::is_text(bytes),
        End::Fault { bomb, truncated } => {
            machine.imports && (framed || machine.calls) || framed && (bomb || truncated)
        }
    }
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
    let mut at = from;
    for _ in 0..RESTARTS_MAX {
        at += bytes[at..].windows(2).position(|two| two[0] == 0x80 && (2..=5).contains(&two[1]))?;
        // Raw numbers look like the start of a stream now and then; a denied import does not.
        let mut trial = Context::new("");
        let mut machine = Machine::new(bytes, at, &mut trial).with_operations(TRIAL_OPERATIONS_MAX);
        let bomb = matches!(machine.run(), End::Fault { bomb: true, .. });
        let denied = machine.imports && machine.calls;
        if bomb || denied && 0 < trial.attacks() {
            let message = "another pickle follows after raw bytes";
            context.attack("pickle-hidden", Severity::High, &format!("byte {at}"), message);
            return Some(at);
        }
        at += 2;
    }
    None
}

#[cfg(test)]
mod tests;
