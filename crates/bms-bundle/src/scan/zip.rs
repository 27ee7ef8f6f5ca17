//! ZIP archives: torch checkpoints, NumPy archives, and what pretends to be one.
//!
//! Source: PKWARE's APPNOTE 6.3. Readers differ in which of the two headers of a member they
//! trust, in how they find the directory, and in what they ignore; each difference has been used
//! to show a scanner one file and a loader another. So both headers are read and compared, and
//! every byte must belong to something.

mod directory;

use std::ops::Range;

use std::collections::HashMap;

use flate2::Crc;
use flate2::read::DeflateDecoder;

use crate::Severity;
use crate::scan::context::{Context, quote};
use crate::scan::{Format, format, inflate, inspect, inspect_named, location};
use directory::{Directory, Member, find, local, members, sequential};

/// Members of one archive.
const MEMBERS_MAX: usize = 200_000;
/// Members from this size on are summed up on a thread of their own.
const SHARED_FROM: usize = 1 << 20;
/// Encrypted, strongly encrypted, masked: readers that ignore these flags read the plain bytes,
/// scanners that obey them skip the member.
const HIDING_FLAGS: u16 = 0x0001 | 0x0040 | 0x2000;
/// Patched data, which no reader here supports.
const PATCH_FLAG: u16 = 0x0020;
/// The sizes follow the data.
const DESCRIPTOR_FLAG: u16 = 0x0008;
/// Longest data descriptor: signature, checksum, two sizes of eight bytes.
const DESCRIPTOR_BYTES_MAX: u64 = 24;

/// Where the archive lies whose directory is at the end of `bytes`, whatever they begin with.
pub(crate) fn at_end(bytes: &[u8]) -> Option<Range<u64>> {
    let directory = find(bytes).filter(|directory| 0 < directory.members)?;
    members(bytes, &directory).map(|_| directory.shift..directory.end)
}

/// Scans an archive.
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    let Some(directory) = find(bytes) else { return undirected(bytes, context) };
    frame(bytes, &directory, context);
    whole(bytes, &directory, context);
}

/// Scans an archive that stands behind something which belongs to it.
pub(crate) fn scan_appended(bytes: &[u8], context: &mut Context) {
    if let Some(directory) = find(bytes) {
        whole(bytes, &directory, context);
    }
}

/// Scans the members.
fn whole(bytes: &[u8], directory: &Directory, context: &mut Context) {
    let Some(list) = members(bytes, directory) else {
        return context.malformed("zip-malformed", "", "the archive's directory cannot be read");
    };
    if MEMBERS_MAX < list.len() {
        return context.attack("zip-members", Severity::Medium, "", format!("{} members", list.len()));
    }
    names(&list, context);
    let compiled = compiled_root(&list);
    let mut extents = Vec::new();
    let mut packed_left = bytes.len() as u64;
    for member in &list {
        let Some(left) = packed_left.checked_sub(member.packed) else {
            // Scanning each would take the members' number times the file's size.
            let message = "the members hold more bytes than the archive, so they share some";
            return context.attack("zip-overlap", Severity::High, &member.name, message);
        };
        if context.is_full() {
            return;
        }
        packed_left = left;
        extents.extend(one(bytes, member, directory.shift, compiled.as_deref(), context));
    }
    coverage(extents, directory.begin, context);
}

/// An archive whose directory is missing: some readers go by the members' own headers.
fn undirected(bytes: &[u8], context: &mut Context) {
    context.attack(
        "zip-directory",
        Severity::High,
        "",
        "the archive has no directory, so readers see different members",
    );
    for member in sequential(bytes).take(MEMBERS_MAX) {
        if context.is_full() {
            return;
        }
        one(bytes, &member, 0, None, context);
    }
}

/// Judges what surrounds the members: bytes before and after, and rival directories.
fn frame(bytes: &[u8], directory: &Directory, context: &mut Context) {
    if 0 < directory.shift {
        let message = format!("{} bytes come before the archive", directory.shift);
        context.attack("zip-prefix", Severity::High, "", message);
        let shift = (directory.shift as usize).min(bytes.len());
        // Something complete may stand there: another archive, a pickle, a program.
        if format::identify(&bytes[..shift]) != Format::Zip || at_end(&bytes[..shift]).is_some() {
            context.inside("prefix", |context| inspect(&bytes[..shift], context));
        }
    }
    let after = &bytes[directory.end as usize..];
    if !after.is_empty() {
        let message = format!("{} bytes come after the archive", after.len());
        context.attack("zip-trailing", Severity::High, "", message);
    }
    if directory.rivals {
        let message = "the archive has several directory ends, of which readers take different ones";
        context.attack("zip-directory", Severity::High, "", message);
    }
}

/// Judges the members' names against each other.
fn names(list: &[Member], context: &mut Context) {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for member in list {
        match seen.insert(member.name.to_lowercase(), &member.name) {
            Some(other) if other == member.name => {
                let message = "two members have one name, and readers take different ones";
                context.attack("zip-repeated", Severity::High, &member.name, message);
            }
            Some(_) => {
                let message = "two members have names that differ only in case";
                context.attack("zip-repeated", Severity::Medium, &member.name, message);
            }
            None => {}
        }
    }
}

/// Scans one member. Returns where it lies: from its own header to the end of its data.
fn one(
    bytes: &[u8],
    member: &Member,
    shift: u64,
    compiled: Option<&str>,
    context: &mut Context,
) -> Option<(u64, u64)> {
    let place = member.name.as_str();
    if let Some(why) = location::fault(place) {
        context.attack(
            "archive-path",
            Severity::High,
            place,
            format!("a member unpacks to a path that {why}"),
        );
    }
    if member.mode & 0xf000 == 0xa000 {
        context.attack("archive-link", Severity::High, place, "a member is a symbolic link");
    }
    let begin = member.offset.checked_add(shift)?;
    let Some(own) = local(bytes, begin) else {
        context.attack("zip-local", Severity::High, place, "a member of the directory is not in the archive");
        return None;
    };
    compare(member, &own, context);
    let data = own.data;
    let end = data.checked_add(member.packed)?;
    let Some(packed) =
        bytes.get(data as usize..).and_then(|rest| rest.get(..usize::try_from(member.packed).ok()?))
    else {
        context.malformed("zip-truncated", place, "the archive ends inside a member");
        return None;
    };
    context.inside(place, |context| content(member, packed, compiled, context));
    let descriptor = if own.flags & DESCRIPTOR_FLAG != 0 { DESCRIPTOR_BYTES_MAX } else { 0 };
    Some((begin, end + descriptor))
}

/// Compares what the directory says with what the member's own header says.
fn compare(member: &Member, own: &directory::Local, context: &mut Context) {
    let place = member.name.as_str();
    if (member.flags | own.flags) & HIDING_FLAGS != 0 {
        let message = "a member is marked as encrypted, which readers ignore and scanners obey";
        context.attack("zip-flags", Severity::High, place, message);
    } else if (member.flags | own.flags) & PATCH_FLAG != 0 || member.flags != own.flags {
        context.attack("zip-flags", Severity::Medium, place, "a member's two headers have different flags");
    }
    if member.name != own.name {
        let message = format!("the member calls itself {}", quote(&own.name));
        context.attack("zip-name", Severity::High, place, message);
    }
    if member.method != own.method {
        context.attack("zip-method", Severity::High, place, "a member's two headers name different methods");
    }
    let sized = own.flags & DESCRIPTOR_FLAG == 0 && own.packed != u64::from(u32::MAX);
    if sized && (own.packed != member.packed || own.crc != member.crc) {
        context.attack(
            "zip-size",
            Severity::High,
            place,
            "a member's two headers differ in size or checksum",
        );
    }
}

/// Unpacks and scans a member's content.
fn content(member: &Member, packed: &[u8], compiled: Option<&str>, context: &mut Context) {
    let unpacked;
    let plain = match member.method {
        0 => packed,
        8 => match inflate::unpack(DeflateDecoder::new(packed), member.packed, context) {
            Some(bytes) => {
                unpacked = bytes;
                &unpacked[..]
            }
            None if member.size == 0 => &[],
            None => return context.malformed("zip-malformed", "", "a member cannot be unpacked"),
        },
        method @ (12 | 14 | 93) => match other_method(method, packed, member, context) {
            Some(bytes) => {
                context.note(
                    "zip-method",
                    Severity::Low,
                    "",
                    format!("a member is packed with method {method}"),
                );
                unpacked = bytes;
                &unpacked[..]
            }
            None => return context.malformed("zip-malformed", "", "a member cannot be unpacked"),
        },
        method => {
            let message = format!("a member is packed with method {method}, which cannot be scanned");
            return context.attack("zip-method", Severity::Medium, "", message);
        }
    };
    if plain.len() as u64 != member.size {
        let message = format!("a member of {} bytes claims {}", plain.len(), member.size);
        context.attack("zip-size", Severity::Medium, "", message);
    }
    let is_compiled = compiled.is_some_and(|root| member.name.starts_with(root));
    let look = |context: &mut Context| match is_compiled {
        // TorchScript's sources look like Python and are read by torch alone.
        true => inspect(plain, context),
        false => inspect_named(&member.name, plain, context),
    };
    let (crc, format) = match SHARED_FROM <= plain.len() {
        true => std::thread::scope(|scope| {
            let crc = scope.spawn(|| checksum(plain));
            let format = look(context);
            (crc.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), format)
        }),
        false => (checksum(plain), look(context)),
    };
    if crc != member.crc {
        let message = "a member's checksum is wrong, which stops some readers and not others";
        context.attack("zip-checksum", Severity::High, "", message);
    }
    if format == Format::Text {
        script(plain, context);
    }
}

/// The folder of what torch compiled, when the archive has the constants and the data that go with it.
fn compiled_root(list: &[Member]) -> Option<String> {
    let root = list.iter().find_map(|member| member.name.strip_suffix("constants.pkl"))?;
    let has = |name: &str| list.iter().any(|member| member.name.strip_prefix(root) == Some(name));
    (has("data.pkl") && has("version")).then(|| format!("{root}code/"))
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Unpacks with a method other than deflate.
fn other_method(method: u16, packed: &[u8], member: &Member, context: &mut Context) -> Option<Vec<u8>> {
    let size = packed.len() as u64;
    match method {
        12 => inflate::unpack(bzip2::read::BzDecoder::new(packed), size, context),
        93 => {
            let window = u64::from(inflate::WINDOW_BYTES_MAX);
            let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(packed, window);
            inflate::unpack(decoder.ok()?, size, context)
        }
        _ => {
            // A version, the length of the properties, the properties, then the stream.
            let [_, _, 5, 0, properties, d0, d1, d2, d3, stream @ ..] = packed else { return None };
            let dictionary = u32::from_le_bytes([*d0, *d1, *d2, *d3]).min(inflate::WINDOW_BYTES_MAX);
            let reader =
                lzma_rust2::LzmaReader::new_with_props(stream, member.size, *properties, dictionary, None);
            inflate::unpack(reader.ok()?, size, context)
        }
    }
}

/// TorchScript sources are compiled when the archive is loaded; these operators touch files.
fn script(text: &[u8], context: &mut Context) {
    const OPERATORS: [&[u8]; 6] = [
        b"aten::from_file",
        b"aten::save",
        b"aten.from_file(",
        b"aten.save(",
        b"torch.from_file(",
        b"torch.save(",
    ];
    if OPERATORS.iter().any(|operator| format::contains(text, operator)) {
        context.attack("torchscript-files", Severity::High, "", "TorchScript code reads or writes files");
    }
}

/// Checks that members neither share bytes nor leave room between them.
fn coverage(mut extents: Vec<(u64, u64)>, directory: u64, context: &mut Context) {
    extents.sort_unstable();
    let mut at = 0;
    for (begin, end) in extents {
        if begin.saturating_add(DESCRIPTOR_BYTES_MAX) < at {
            return context.attack("zip-overlap", Severity::High, "", "members share bytes");
        }
        // Real archives are dense; some align data, but inside the header's extra field.
        if at + 64 < begin {
            let message = format!("{} bytes before a member belong to none", begin - at);
            context.attack("zip-hole", Severity::Medium, "", message);
        }
        at = at.max(end);
    }
    if at + 64 < directory {
        let message = format!("{} bytes before the directory belong to no member", directory - at);
        context.attack("zip-hole", Severity::Medium, "", message);
    }
}
