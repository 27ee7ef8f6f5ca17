//! Compressed files and archives other than ZIP: they are unpacked and scanned inside. What cannot be
//! unpacked here is a finding, because a loader or a person may unpack it elsewhere.

use std::io::Read;

use bzip2::read::MultiBzDecoder;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use lzma_rust2::{LzmaReader, XzReader};

use crate::Severity;
use crate::scan::inflate::{self, Unpacked, WINDOW_BYTES_MAX};
use crate::scan::{Context, inspect, sevenz, tar};

/// Memory limit of the LZMA decoders, in the unit they take.
const MEMORY_KIB_MAX: u32 = WINDOW_BYTES_MAX >> 10;
/// Frames of one zstd or lz4 file.
const FRAMES_MAX: usize = 4096;

/// Whether `bytes` look like a zlib stream: the header's checksum is right and it unpacks.
pub(crate) fn is_zlib(bytes: &[u8]) -> bool {
    let [0x78, flags, ..] = bytes else { return false };
    let header = 0x7800 | u16::from(*flags);
    header.is_multiple_of(31) && flags & 0x20 == 0 && starts(ZlibDecoder::new(bytes))
}

/// Whether `bytes` are a stream of `lzma` alone, which has no magic: properties, a dictionary size that encoders
/// use, a length, and it unpacks.
pub(crate) fn is_lzma(bytes: &[u8]) -> bool {
    let [0x5d, d0, d1, d2, d3, length @ ..] = bytes else { return false };
    let dictionary = u32::from_le_bytes([*d0, *d1, *d2, *d3]);
    let plain = dictionary.is_power_of_two() || (dictionary / 3 * 2).is_power_of_two();
    let known = length.get(..8).is_some_and(|length| length == [0xff; 8] || length[5..] == [0; 3]);
    plain && known && LzmaReader::new_mem_limit(bytes, MEMORY_KIB_MAX, None).is_ok_and(starts)
}

/// Whether a stream gives anything.
fn starts(mut reader: impl Read) -> bool {
    reader.read(&mut [0; 16]).is_ok_and(|n| 0 < n)
}

/// Scans an archive.
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    let packed = bytes.len() as u64;
    let unpacked = if bytes.starts_with(b"\x1f\x8b") {
        inflate::unpack_all(MultiGzDecoder::new(bytes), packed, context)
    } else if bytes.starts_with(b"BZh") {
        inflate::unpack_all(MultiBzDecoder::new(bytes), packed, context)
    } else if bytes.starts_with(b"\xfd7zXZ\0") {
        inflate::unpack_all(XzReader::new_mem_limit(bytes, true, MEMORY_KIB_MAX), packed, context)
    } else if bytes.starts_with(b"\x28\xb5\x2f\xfd") || matches!(bytes, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]) {
        zstd(bytes, context)
    } else if bytes.starts_with(b"\x04\x22\x4d\x18") {
        inflate::unpack_all(lz4_flex::frame::FrameDecoder::new(bytes), packed, context)
    } else if is_zlib(bytes) {
        zlib(bytes, context)
    } else if let Some(stream) = old_joblib(bytes) {
        zlib(stream, context)
    } else if sevenz::is_sevenz(bytes) {
        return sevenz::scan(bytes, context);
    } else if tar::is_tar(bytes) {
        return tar::scan(bytes, context);
    } else if is_lzma(bytes) {
        match LzmaReader::new_mem_limit(bytes, MEMORY_KIB_MAX, None) {
            Ok(reader) => inflate::unpack_all(reader, packed, context),
            Err(_) => Unpacked { bytes: Vec::new(), faulty: true },
        }
    } else {
        let message = "the archive is of a kind that cannot be looked into";
        return context.attack("archive-unread", Severity::Medium, "", message);
    };
    if unpacked.faulty {
        context.malformed("archive-truncated", "", "the compressed file cannot be unpacked to its end");
    }
    if !unpacked.bytes.is_empty() {
        context.inside("content", |context| inspect(&unpacked.bytes, context));
    }
}

/// A zlib stream. What follows its end no loader reads, so it is there for someone else.
fn zlib(bytes: &[u8], context: &mut Context) -> Unpacked {
    let mut decoder = ZlibDecoder::new(bytes);
    let unpacked = inflate::unpack_all(&mut decoder, bytes.len() as u64, context);
    let rest = bytes.get(decoder.total_in() as usize..).unwrap_or_default();
    if !unpacked.faulty && rest.iter().any(|byte| *byte != 0) && context.unpacked_left() != 0 {
        trailing(rest, context);
    }
    unpacked
}

fn trailing(rest: &[u8], context: &mut Context) {
    let message = format!("{} bytes follow the compressed stream", rest.len());
    context.attack("archive-trailing", Severity::Medium, "", message);
    context.inside("rest", |context| inspect(rest, context));
}

/// The frames of a zstd file, one after the other.
fn zstd(bytes: &[u8], context: &mut Context) -> Unpacked {
    let mut left = bytes;
    let mut all = Unpacked { bytes: Vec::new(), faulty: false };
    for _ in 0..FRAMES_MAX {
        if left.is_empty() {
            return all;
        }
        // A skippable frame: magic, length, anything.
        if let [0x50..=0x5f, 0x2a, 0x4d, 0x18, l0, l1, l2, l3, rest @ ..] = left {
            let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize;
            let Some((skipped, rest)) = rest.split_at_checked(length) else { break };
            context.inside("skippable frame", |context| inspect(skipped, context));
            left = rest;
            continue;
        }
        let packed = left.len() as u64;
        let window = u64::from(WINDOW_BYTES_MAX);
        let Ok(decoder) = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(&mut left, window)
        else {
            break;
        };
        let piece = inflate::unpack_all(decoder, packed, context);
        all.bytes.extend_from_slice(&piece.bytes);
        if piece.faulty {
            break;
        }
    }
    all.faulty = true;
    all
}

/// The zlib stream in a file of joblib before 0.10: magic, length in hex, stream.
fn old_joblib(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(b"ZF")?;
    // The length is padded to 19 or 20 characters, depending on the Python that wrote it.
    [19, 20, 21].into_iter().filter_map(|skip| rest.get(skip..)).find(|stream| is_zlib(stream))
}
