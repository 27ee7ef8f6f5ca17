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
/// Bytes unpacked between two looks at the limits.
const PIECE_BYTES: u64 = 1 << 20;
/// Memory a decoder may take for its dictionary or window.
pub(crate) const WINDOW_BYTES_MAX: u32 = 256 << 20;

/// What came out of a stream.
pub(crate) struct Unpacked {
    /// The bytes before the end or the fault.
    pub(crate) bytes: Vec<u8>,
    /// Whether the stream ended with a fault.
    pub(crate) faulty: bool,
}

/// Unpacks a stream of `packed` bytes. Reports bombs; `None` when nothing could be unpacked.
pub(crate) fn unpack(reader: impl Read, packed: u64, context: &mut Context) -> Option<Vec<u8>> {
    let unpacked = unpack_all(reader, packed, context);
    match unpacked.faulty && unpacked.bytes.is_empty() {
        true => None,
        // A fault at the end is the caller's to judge: readers use what came before it.
        false => Some(unpacked.bytes),
    }
}

/// As [`unpack`], and says whether the stream ended well. A bomb stops it at once and counts as an end.
pub(crate) fn unpack_all(mut reader: impl Read, packed: u64, context: &mut Context) -> Unpacked {
    let limit = UNPACKED_BYTES_MAX.min(context.unpacked_left());
    let mut bytes = Vec::new();
    let faulty = loop {
        let before = bytes.len() as u64;
        let result = reader.by_ref().take(PIECE_BYTES).read_to_end(&mut bytes);
        let size = bytes.len() as u64;
        if limit < size || UNPACKED_BYTES_HARMLESS < size && packed.saturating_mul(RATIO_MAX) < size {
            let message = format!("{packed} bytes unpack to {size} or more");
            context.attack("unpack-bomb", Severity::Medium, "", message);
            bytes.truncate(UNPACKED_BYTES_HARMLESS as usize);
            break false;
        }
        match result {
            Err(_) => break true,
            Ok(_) if size == before => break false,
            Ok(_) => {}
        }
    };
    context.spend_unpacked(bytes.len() as u64);
    Unpacked { bytes, faulty }
}
