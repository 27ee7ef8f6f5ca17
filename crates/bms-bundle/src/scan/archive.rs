//! Compressed files and archives other than ZIP: what can be unpacked is scanned inside, the
//! rest is left to the policy, which does not admit archives.

use flate2::read::{MultiGzDecoder, ZlibDecoder};

use crate::Severity;
use crate::scan::context::{Context, quote};
use crate::scan::{inflate, inspect, location};

/// Bytes of a tar header, and of the grid everything in a tar lies on.
const BLOCK: usize = 512;
/// Members of one archive.
const MEMBERS_MAX: usize = 100_000;

/// Whether `bytes` look like a zlib stream: the header's checksum is right and it unpacks.
pub(crate) fn is_zlib(bytes: &[u8]) -> bool {
    use std::io::Read;
    let [0x78, flags, ..] = bytes else { return false };
    let header = 0x7800 | u16::from(*flags);
    let mut probe = [0; 16];
    header.is_multiple_of(31)
        && flags & 0x20 == 0
        && ZlibDecoder::new(bytes).read(&mut probe).is_ok_and(|n| 0 < n)
}

/// Scans an archive.
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    let packed = bytes.len() as u64;
    let unpacked = if bytes.starts_with(b"\x1f\x8b") {
        inflate::unpack(MultiGzDecoder::new(bytes), packed, context)
    } else if is_zlib(bytes) {
        inflate::unpack(ZlibDecoder::new(bytes), packed, context)
    } else if let Some(stream) = old_joblib(bytes) {
        inflate::unpack(ZlibDecoder::new(stream), packed, context)
    } else if is_tar(bytes) {
        return tar(bytes, context);
    } else {
        return context.note("archive", Severity::Low, "", "the archive's content was not scanned");
    };
    match unpacked {
        Some(content) => drop(context.inside("content", |context| inspect(&content, context))),
        None => context.malformed("archive-truncated", "", "the compressed file cannot be unpacked"),
    }
}

/// Whether there is a tar header at the start.
pub(crate) fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

/// The zlib stream in a file of joblib before 0.10: magic, length in hex, stream.
fn old_joblib(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(b"ZF")?;
    // The length is padded to 19 or 20 characters, depending on the Python that wrote it.
    [19, 20, 21].into_iter().filter_map(|skip| rest.get(skip..)).find(|stream| is_zlib(stream))
}

/// Walks the members of a tar.
fn tar(bytes: &[u8], context: &mut Context) {
    let mut at = 0;
    for _ in 0..MEMBERS_MAX {
        let Some(header) = bytes.get(at..at + BLOCK) else { return };
        if header.iter().all(|byte| *byte == 0) {
            return;
        }
        let name = member_name(header);
        let Some(size) = octal(&header[124..136]) else {
            return context.malformed("tar-malformed", &name, "a member's size is malformed");
        };
        member(header, &name, context);
        let from = at + BLOCK;
        let Some(content) =
            usize::try_from(size).ok().and_then(|size| bytes.get(from..from.checked_add(size)?))
        else {
            return context.malformed("tar-truncated", &name, "the archive ends inside a member");
        };
        if matches!(header[156], b'0' | 0 | b'7') {
            context.inside(&name, |context| inspect(content, context));
        }
        at = from + content.len().next_multiple_of(BLOCK);
    }
    context.attack("tar-members", Severity::Medium, "", "the archive has too many members to be scanned");
}

/// Judges a member by its header.
fn member(header: &[u8], name: &str, context: &mut Context) {
    if let Some(why) = location::fault(name) {
        let message = format!("a member unpacks to {}, which {why}", quote(name));
        context.attack("archive-path", Severity::High, "", message);
    }
    let target = String::from_utf8_lossy(until_zero(&header[157..257])).into_owned();
    match header[156] {
        b'1' | b'2' => {
            let message = format!("the member {} is a link to {}", quote(name), quote(&target));
            let severity = if location::fault(&target).is_some() { Severity::High } else { Severity::Low };
            match severity {
                Severity::Low => context.note("archive-link", severity, "", message),
                _ => context.attack("archive-link", severity, "", message),
            }
        }
        b'3' | b'4' | b'6' => {
            let message = format!("the member {} is a device or pipe", quote(name));
            context.attack("archive-device", Severity::High, "", message);
        }
        _ => {}
    }
}

fn member_name(header: &[u8]) -> String {
    let name = String::from_utf8_lossy(until_zero(&header[..100])).into_owned();
    let prefix = until_zero(&header[345..500]);
    match prefix {
        [] => name,
        _ => format!("{}/{name}", String::from_utf8_lossy(prefix)),
    }
}

fn until_zero(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal digits, or in binary when the first bit is set.
fn octal(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let low = &field[field.len() - 8..];
        return Some(low.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
    }
    let text = std::str::from_utf8(until_zero(field)).ok()?.trim();
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}
