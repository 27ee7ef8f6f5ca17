//! 7z archives: models have been hidden in them because scanners look into ZIP only.
//!
//! Source: `DOC/7zFormat.txt` of the LZMA SDK.

mod header;

use std::io::Read;

use bzip2::read::MultiBzDecoder;
use flate2::read::DeflateDecoder;
use lzma_rust2::filter::bcj::BcjReader;
use lzma_rust2::filter::delta::DeltaReader;
use lzma_rust2::{Lzma2Reader, LzmaReader};

use crate::Severity;
use crate::scan::inflate::{self, WINDOW_BYTES_MAX};
use crate::scan::{Context, inspect, inspect_named, location};
use header::{Archive, Coder, Folder, Stop};

/// The first bytes.
const MAGIC: &[u8] = b"7z\xbc\xaf\x27\x1c";
/// Bytes of the first header.
const START_BYTES: usize = 32;
/// Headers packed inside headers; writers pack once.
const HEADER_DEPTH_MAX: usize = 4;

/// Whether `bytes` begin like a 7z archive.
pub(crate) fn is_sevenz(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Scans an archive.
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    match open(bytes, context) {
        Ok(Some(archive)) => members(bytes, &archive, context),
        // Whatever stopped the header from being unpacked has been reported.
        Ok(None) => {}
        Err(Stop::Truncated) => {
            context.malformed("archive-truncated", "", "the 7z archive's header cannot be read")
        }
        Err(Stop::Unsupported(what)) => unread(&what, context),
    }
}

fn unread(what: &str, context: &mut Context) {
    let message = format!("the 7z archive cannot be looked into: {what}");
    context.attack("archive-unread", Severity::Medium, "", message);
}

/// Reads the header, which is packed itself in most archives.
fn open(bytes: &[u8], context: &mut Context) -> Result<Option<Archive>, Stop> {
    let word = |at: usize| -> Result<u64, Stop> {
        let field = bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).ok_or(Stop::Truncated)?;
        Ok(u64::from_le_bytes(field))
    };
    let (offset, size) = (word(12)?, word(20)?);
    if size == 0 {
        return Ok(Some(Archive::default()));
    }
    let from = usize::try_from(offset).ok().and_then(|at| at.checked_add(START_BYTES));
    let rest = from.and_then(|from| bytes.get(from..)).ok_or(Stop::Truncated)?;
    let length = usize::try_from(size).map_err(|_| Stop::Truncated)?;
    let (header, after) = rest.split_at_checked(length).ok_or(Stop::Truncated)?;
    if !after.is_empty() {
        let message = format!("{} bytes follow the archive", after.len());
        context.attack("archive-trailing", Severity::Medium, "", message);
        context.inside("rest", |context| inspect(after, context));
    }
    let mut header = header.to_vec();
    for _ in 0..HEADER_DEPTH_MAX {
        let archive = header::parse(&header)?;
        if !archive.is_packed_header {
            return Ok(Some(archive));
        }
        let Some(next) = unfold(bytes, &archive, 0, context)? else { return Ok(None) };
        header = next;
    }
    Err(Stop::Unsupported("headers are packed inside headers".to_owned()))
}

/// Scans the members, folder by folder: a folder is one packed stream of one or more members.
fn members(bytes: &[u8], archive: &Archive, context: &mut Context) {
    let mut names = archive.names.iter();
    for name in &archive.names {
        if let Some(why) = location::fault(name) {
            let message = format!("a member unpacks to a path that {why}");
            context.attack("archive-path", Severity::High, name, message);
        }
    }
    for index in 0..archive.folders.len() {
        if context.is_full() {
            return;
        }
        let content = match unfold(bytes, archive, index, context) {
            Ok(Some(content)) => content,
            Ok(None) => continue,
            Err(Stop::Truncated) => {
                context.malformed("archive-truncated", "", "a member of the 7z archive cannot be unpacked");
                continue;
            }
            Err(Stop::Unsupported(what)) => {
                unread(&what, context);
                continue;
            }
        };
        let mut left = &content[..];
        for size in &archive.folders[index].members {
            let name = names.next().map_or("member", String::as_str);
            let Some((member, rest)) =
                usize::try_from(*size).ok().and_then(|size| left.split_at_checked(size))
            else {
                context.malformed("archive-truncated", name, "a member is longer than its folder");
                break;
            };
            context.inside(name, |context| inspect_named(name, member, context));
            left = rest;
        }
        if !left.is_empty() {
            context.attack("archive-trailing", Severity::Medium, "", "a folder holds more than its members");
            context.inside("rest", |context| inspect(left, context));
        }
    }
}

/// Unpacks one folder. `None` when it gave nothing, which is reported.
fn unfold(
    bytes: &[u8],
    archive: &Archive,
    index: usize,
    context: &mut Context,
) -> Result<Option<Vec<u8>>, Stop> {
    let folder = archive.folders.get(index).ok_or(Stop::Truncated)?;
    let (offset, size) = archive.packed(index).ok_or(Stop::Truncated)?;
    let from = usize::try_from(offset).ok().and_then(|at| at.checked_add(START_BYTES));
    let packed = from.and_then(|from| bytes.get(from..)).ok_or(Stop::Truncated)?;
    let packed = usize::try_from(size).ok().and_then(|size| packed.get(..size)).ok_or(Stop::Truncated)?;
    let reader = chain(folder, packed)?;
    let unpacked = inflate::unpack_all(reader, size, context);
    if unpacked.faulty {
        return Err(Stop::Truncated);
    }
    Ok(Some(unpacked.bytes))
}

/// The decoders of a folder, the last of which gives the content.
fn chain<'a>(folder: &Folder, packed: &'a [u8]) -> Result<Box<dyn Read + 'a>, Stop> {
    let mut reader: Box<dyn Read + 'a> = Box::new(packed);
    for (coder, size) in folder.order()? {
        reader = decoder(coder, size, reader)?;
    }
    // Some decoders do not know where their stream ends.
    let size = folder.size().ok_or(Stop::Truncated)?;
    Ok(Box::new(reader.take(size)))
}

fn decoder<'a>(coder: &Coder, size: u64, inner: Box<dyn Read + 'a>) -> Result<Box<dyn Read + 'a>, Stop> {
    let unsupported = |what: &str| Stop::Unsupported(what.to_owned());
    let dictionary = |size: u32| match size <= WINDOW_BYTES_MAX {
        true => Ok(size),
        false => Err(unsupported("its dictionary is too large")),
    };
    Ok(match (&coder.id[..], &coder.properties[..]) {
        ([0], _) => inner,
        ([3, 1, 1], [properties, d0, d1, d2, d3]) => {
            let dictionary = dictionary(u32::from_le_bytes([*d0, *d1, *d2, *d3]))?;
            let reader = LzmaReader::new_with_props(inner, size, *properties, dictionary, None);
            Box::new(reader.map_err(|_| Stop::Truncated)?)
        }
        ([0x21], [bits @ 0..=40]) => {
            let size = match bits {
                40 => u32::MAX,
                bits => (2 | u32::from(bits & 1)) << (bits / 2 + 11),
            };
            Box::new(Lzma2Reader::new(inner, dictionary(size)?, None))
        }
        ([4, 1, 8], _) => Box::new(DeflateDecoder::new(inner)),
        ([4, 2, 2], _) => Box::new(MultiBzDecoder::new(inner)),
        ([4, 0xf7, 0x11, 1], _) => {
            let window = u64::from(WINDOW_BYTES_MAX);
            let reader = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(inner, window);
            Box::new(reader.map_err(|_| Stop::Truncated)?)
        }
        ([3], [distance]) => Box::new(DeltaReader::new(inner, usize::from(*distance) + 1)),
        ([3, 3, 1, 3] | [4], _) => Box::new(BcjReader::new_x86(inner, 0)),
        ([3, 3, 5, 1] | [7], _) => Box::new(BcjReader::new_arm(inner, 0)),
        ([3, 3, 7, 1] | [8], _) => Box::new(BcjReader::new_arm_thumb(inner, 0)),
        ([0xa], []) => Box::new(BcjReader::new_arm64(inner, 0)),
        ([6, ..], _) => return Err(unsupported("it is encrypted")),
        (id, _) => {
            return Err(Stop::Unsupported(format!("it is packed with the method {}", hex::encode(id))));
        }
    })
}
