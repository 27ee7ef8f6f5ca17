//! Tar archives: legacy torch checkpoints, NeMo models, and what people pack.
//!
//! Source: POSIX.1-2001 `pax`, and the GNU extensions that Python's `tarfile` reads.

use std::ops::Range;

use crate::Severity;
use crate::scan::context::{Context, quote};
use crate::scan::{inspect_named, location};

/// Bytes of a tar header, and of the grid everything in a tar lies on.
const BLOCK: usize = 512;
/// Members of one archive.
const MEMBERS_MAX: usize = 100_000;

/// Whether there is a tar header at the start: by its magic, or, for the oldest kind, by its checksum.
pub(crate) fn is_tar(bytes: &[u8]) -> bool {
    let Some(header) = bytes.get(..BLOCK) else { return bytes.get(257..262) == Some(b"ustar") };
    &header[257..262] == b"ustar" || header[0] != 0 && checksum(header)
}

/// Whether the header's own checksum is right: the sum of its bytes, the checksum's taken for spaces.
fn checksum(header: &[u8]) -> bool {
    let field = &header[148..156];
    let Some(stated) = octal(field).filter(|_| field.iter().any(u8::is_ascii_digit)) else { return false };
    let bytes = header[..148].iter().chain(&header[156..]);
    let sum = bytes.map(|byte| u64::from(*byte)).sum::<u64>() + 8 * u64::from(b' ');
    sum == stated
}

/// Whether this place lies in the content of one member, which is then looked at by itself.
pub(crate) fn is_member(bytes: &[u8], place: &Range<u64>) -> bool {
    let mut at = 0_u64;
    for _ in 0..MEMBERS_MAX {
        let header = usize::try_from(at).ok().and_then(|at| bytes.get(at..at.checked_add(BLOCK)?));
        let Some(size) = header.filter(|header| checksum(header)).and_then(|header| octal(&header[124..136]))
        else {
            return false;
        };
        let from = at + BLOCK as u64;
        let Some(end) = from.checked_add(size) else { return false };
        if from <= place.start && place.end <= end {
            return true;
        }
        let Some(next) = end.checked_next_multiple_of(BLOCK as u64) else { return false };
        at = next;
    }
    false
}

/// Walks the members of a tar.
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    let mut at = 0;
    // Names for the next member, from extension headers.
    let mut next = Names::default();
    for _ in 0..MEMBERS_MAX {
        if context.is_full() {
            return;
        }
        let Some(header) = bytes.get(at..at + BLOCK) else {
            if at < bytes.len() {
                context.malformed("tar-truncated", "", "the archive ends inside a header");
            }
            return;
        };
        if header.iter().all(|byte| *byte == 0) {
            return after(&bytes[at..], context);
        }
        if !checksum(header) {
            // Some readers stop here and some go on.
            context.malformed("tar-malformed", "", "a member's header has a wrong checksum");
        }
        let names = std::mem::take(&mut next);
        let name = names.name.unwrap_or_else(|| member_name(header));
        let Some(size) = names.size.or_else(|| octal(&header[124..136])) else {
            return context.malformed("tar-malformed", &name, "a member's size is malformed");
        };
        let from = at + BLOCK;
        let Some(content) =
            usize::try_from(size).ok().and_then(|size| bytes.get(from..from.checked_add(size)?))
        else {
            return context.malformed("tar-truncated", &name, "the archive ends inside a member");
        };
        match header[156] {
            b'L' => next.name = Some(String::from_utf8_lossy(until_zero(content)).into_owned()),
            b'K' => next.target = Some(String::from_utf8_lossy(until_zero(content)).into_owned()),
            b'x' | b'g' => next.read(content),
            _ => {
                let target = names.target;
                member(header, &name, target, context);
                context.inside(&name, |context| inspect_named(&name, content, context));
            }
        }
        at = from + content.len().next_multiple_of(BLOCK);
    }
    context.attack("tar-members", Severity::Medium, "", "the archive has too many members to be scanned");
}

/// What follows the end mark: readers stop there, unless told to read several archives in a row.
fn after(rest: &[u8], context: &mut Context) {
    if let Some(at) = rest.iter().position(|byte| *byte != 0) {
        let message = format!("{} bytes follow the end of the archive", rest.len() - at);
        context.attack("tar-trailing", Severity::Medium, "", message);
        let rest = &rest[at / BLOCK * BLOCK..];
        context.inside("rest", |context| crate::scan::inspect(rest, context));
    }
}

/// What extension headers say about the next member.
#[derive(Default)]
struct Names {
    name: Option<String>,
    target: Option<String>,
    size: Option<u64>,
}

impl Names {
    /// Reads the records of a pax header: `length key=value\n`.
    fn read(&mut self, mut records: &[u8]) {
        while let Some(space) = records.iter().position(|byte| *byte == b' ') {
            let length = std::str::from_utf8(&records[..space]).ok().and_then(|text| text.parse().ok());
            let Some(record) = length.and_then(|length: usize| records.get(space + 1..length)) else {
                return;
            };
            let text = String::from_utf8_lossy(record);
            match text.trim_end_matches('\n').split_once('=') {
                Some(("path", value)) => self.name = Some(value.to_owned()),
                Some(("linkpath", value)) => self.target = Some(value.to_owned()),
                Some(("size", value)) => self.size = value.parse().ok(),
                _ => {}
            }
            records = &records[space + 1 + record.len()..];
        }
    }
}

/// Judges a member by its header.
fn member(header: &[u8], name: &str, target: Option<String>, context: &mut Context) {
    if let Some(why) = location::fault(name) {
        let message = format!("a member unpacks to {}, which {why}", quote(name));
        context.attack("archive-path", Severity::High, "", message);
    }
    let target =
        target.unwrap_or_else(|| String::from_utf8_lossy(until_zero(&header[157..257])).into_owned());
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
        b'0' | 0 | b'7' | b'5' => {}
        kind => {
            let message = format!(
                "the member {} is of the kind {kind:#04x}, which readers take for different things",
                quote(name)
            );
            context.attack("tar-kind", Severity::Medium, "", message);
        }
    }
}

fn member_name(header: &[u8]) -> String {
    let name = String::from_utf8_lossy(until_zero(&header[..100])).into_owned();
    // Only POSIX headers have a prefix; GNU's have times there.
    let prefix = if &header[257..263] == b"ustar\0" { until_zero(&header[345..500]) } else { &[] };
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
