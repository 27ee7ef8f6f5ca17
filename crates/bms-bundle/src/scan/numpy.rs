//! NumPy arrays: a header in Python's notation, then numbers or, for objects, a pickle.
//!
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use crate::Severity;
use crate::scan::context::Context;
use crate::scan::pickle;

/// Bytes of a header; NumPy refuses more than 10 000 itself unless told to trust the file.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// Scans a file that begins with `\x93NUMPY`.
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    let Some((header, data)) = split(bytes) else {
        return context.malformed("numpy-truncated", "", "the file ends inside its header");
    };
    if HEADER_BYTES_MAX < header.len() {
        let message = format!("the header holds {} bytes", header.len());
        return context.attack("numpy-header", Severity::Medium, "", message);
    }
    let header = String::from_utf8_lossy(header);
    if header.contains('\\') {
        let message = "the header spells its types with escapes, which NumPy never does";
        return context.attack("numpy-header", Severity::Medium, "", message);
    }
    let Some(shape) = shape(&header) else {
        return context.malformed("numpy-header", "", "the header has no shape");
    };
    let values = shape.iter().try_fold(1_u64, |total, dim| total.checked_mul(*dim));
    if values.is_none_or(|values| 1 << 48 < values) {
        return context.attack("numpy-size-bomb", Severity::Medium, "", "the array's size overflows");
    }
    if has_objects(&header) {
        context.inside("objects", |context| pickle::scan(data, context));
    }
}

/// Header and data.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let version = *bytes.get(6)?;
    let (length, from) = match version {
        1 => (usize::from(u16::from_le_bytes([*bytes.get(8)?, *bytes.get(9)?])), 10),
        _ => (u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?) as usize, 12),
    };
    bytes.get(from..)?.split_at_checked(length)
}

/// The numbers after `'shape':`.
fn shape(header: &str) -> Option<Vec<u64>> {
    let (_, rest) = header.split_once("'shape'").or_else(|| header.split_once("\"shape\""))?;
    let (_, rest) = rest.split_once('(')?;
    let (inner, _) = rest.split_once(')')?;
    let dims = inner.split(',').map(|dim| dim.trim().trim_end_matches('L')).filter(|dim| !dim.is_empty());
    // What is no number is no size either; it counts as too large.
    Some(dims.map(|dim| dim.parse().unwrap_or(u64::MAX)).collect())
}

/// Whether a type in the header is an object's: `O` alone or after a byte order, maybe sized.
fn has_objects(header: &str) -> bool {
    let object = |text: &str| {
        let kind = text.trim_start_matches(['|', '<', '>', '=']);
        kind == "object"
            || kind.strip_prefix('O').is_some_and(|size| size.bytes().all(|c| c.is_ascii_digit()))
    };
    header.split(['\'', '"']).any(object)
}
