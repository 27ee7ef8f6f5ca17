//! Unpacking compressed bytes without being drowned by them.

use std::io::Read;

use crate::Severity;
use crate::scan::Context;

/// Bytes unpacked from one stream, whatever it expands to.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;
/// Unpacked bytes for each packed byte. Deflate reaches 1032 on a run of one byte; real weights
/// stay below 20.
const RATIO_MAX: u64 = 200;
/// Below this size nobody is drowned, whatever the ratio.
const UNPACKED_BYTES_HARMLESS: u64 = 16 << 20;

/// Unpacks a stream of `packed` bytes. Reports bombs; `None` when nothing could be unpacked.
pub(crate) fn unpack(reader: impl Read, packed: u64, context: &mut Context) -> Option<Vec<u8>> {
    let limit = UNPACKED_BYTES_MAX.min(context.unpacked_left());
    let mut unpacked = Vec::new();
    // A fault at the end is the caller's to judge: readers use what came before it.
    let result = reader.take(limit + 1).read_to_end(&mut unpacked);
    let size = unpacked.len() as u64;
    context.spend_unpacked(size);
    if limit < size || UNPACKED_BYTES_HARMLESS < size && packed.saturating_mul(RATIO_MAX) < size {
        let message = format!("{packed} bytes unpack to {size} or more");
        context.attack("unpack-bomb", Severity::Medium, "", message);
        unpacked.truncate(UNPACKED_BYTES_HARMLESS as usize);
    }
    match result {
        Err(_) if unpacked.is_empty() => None,
        _ => Some(unpacked),
    }
}
