//! Arrays that joblib stores between the operations of a pickle.
//!
//! Its `NumpyArrayWrapper` reads the numbers from the file while the pickle is being read. A walker
//! that does not skip exactly as many bytes loses the thread, and what follows hides from it.
//! Source: `joblib/numpy_pickle.py`.

use super::value::{Arena, Id, Value};

/// What follows a wrapper.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// So many bytes, after a padding that says its own length.
    Padded(u64),
    /// So many bytes.
    Raw(u64),
    /// A pickle of its own.
    Objects,
}

/// The payload of the wrapper with this state. `None` when the state does not say.
pub(super) fn payload(arena: &Arena, state: Id) -> Option<Payload> {
    let (width, objects) = element(arena, arena.member(state, "dtype")?)?;
    if objects {
        return Some(Payload::Objects);
    }
    let Value::Tuple(shape) = arena.get(arena.member(state, "shape")?) else { return None };
    let mut bytes = width;
    for dim in shape.iter() {
        let Value::Int(dim) = arena.get(*dim) else { return None };
        bytes = bytes.checked_mul(u64::try_from(*dim).ok()?)?;
    }
    let aligned = arena.member(state, "numpy_array_alignment_bytes");
    Some(match aligned.map(|id| arena.get(id)) {
        None | Some(Value::None) => Payload::Raw(bytes),
        Some(_) => Payload::Padded(bytes),
    })
}

/// Bytes of one element of a `numpy.dtype`, and whether it is an object.
fn element(arena: &Arena, dtype: Id) -> Option<(u64, bool)> {
    let Value::Object(callable, arguments) = arena.get(dtype) else { return None };
    if !matches!(arena.get(*callable), Value::Global(path) if &**path == "numpy.dtype") {
        return None;
    }
    let Value::Tuple(arguments) = arena.get(*arguments) else { return None };
    let name = arena.text(*arguments.first()?)?.trim_start_matches(['<', '>', '=', '|']);
    let kind = name.chars().next()?;
    let count: u64 = name[kind.len_utf8()..].parse().ok()?;
    match kind {
        'O' => Some((count, true)),
        'U' => Some((count.checked_mul(4)?, false)),
        'b' | 'i' | 'u' | 'f' | 'c' | 'S' | 'V' | 'M' | 'm' => Some((count, false)),
        _ => None,
    }
}
