//! HDF5: Keras models and weights. Its links and storage can lead to other files, and Keras keeps its configuration
//! in attributes of the root group.
//!
//! Source: <https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html>. Everything reachable from the root
//! group is walked: old groups (B-tree and heap), new ones (links in headers or in fractal heaps), attributes of
//! both kinds, data layouts.

mod heap;
mod message;
mod tree;

use std::collections::HashSet;

use crate::Severity;
use crate::scan::Context;
use crate::scan::context::quote;
use message::Message;

/// The signature.
const MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";
/// Places where the signature may stand: 0, 512, and doubled from there.
const SEARCH_BYTES_MAX: usize = 64 << 20;
/// Groups inside groups.
const DEPTH_MAX: usize = 64;
/// Objects of one file.
const OBJECTS_MAX: usize = 1_000_000;
/// Messages of one object's header, continuations included.
const MESSAGES_MAX: usize = 100_000;
/// An offset that leads nowhere.
const UNDEFINED: u64 = u64::MAX;
/// Values a dataset may claim. The largest weights have a ten-thousandth of it.
const VALUES_MAX: u64 = 1 << 44;

/// Why a structure was not followed.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It does not hold together.
    Malformed(&'static str),
    /// It uses a feature that is not read here.
    Unread(&'static str),
}

type Read<T> = Result<T, Stop>;

/// Where the signature stands, if anywhere.
pub(crate) fn begin(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(MAGIC) {
        return Some(0);
    }
    let mut at = 512;
    while at < bytes.len().min(SEARCH_BYTES_MAX) {
        if bytes[at..].starts_with(MAGIC) {
            return Some(at);
        }
        at *= 2;
    }
    None
}

/// Scans a file that has a signature.
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    let Some(begin) = begin(bytes) else { return };
    if 0 < begin {
        let block = &bytes[..begin];
        let text = block.split(|byte| *byte == 0).next().unwrap_or_default();
        // Some programs put a line about themselves there.
        let plain = crate::scan::format::is_text(text) && block[text.len()..].iter().all(|byte| *byte == 0);
        let message = format!("{begin} bytes come before the HDF5 file");
        match plain {
            true => context.note("hdf5-userblock", Severity::Low, "", message),
            false => context.attack("hdf5-userblock", Severity::Medium, "", message),
        }
        context.inside("user block", |context| crate::scan::inspect_alone(block, context));
    }
    let mut walk = Walk {
        file: File { bytes, base: begin as u64, offset: 8, length: 8 },
        seen: HashSet::new(),
        context,
    };
    match walk.superblock().and_then(|root| walk.object(root, "/", 0)) {
        Ok(()) => {}
        Err(stop) => walk.report(&stop, "/"),
    }
}

/// The file's bytes, and how numbers in it are stored.
#[derive(Clone, Copy)]
struct File<'a> {
    bytes: &'a [u8],
    /// What is added to every address.
    base: u64,
    /// Bytes of an address.
    offset: usize,
    /// Bytes of a length.
    length: usize,
}

impl<'a> File<'a> {
    /// The bytes from an address on.
    fn at(&self, address: u64) -> Read<Cursor<'a>> {
        let at = address.checked_add(self.base).and_then(|at| usize::try_from(at).ok());
        let left = at.filter(|_| address != UNDEFINED).and_then(|at| self.bytes.get(at..));
        Ok(Cursor {
            left: left.ok_or(Stop::Malformed("an address lies beyond the file"))?,
            offset: self.offset,
            length: self.length,
        })
    }

    /// So many bytes at an address.
    fn slice(&self, address: u64, length: u64) -> Read<&'a [u8]> {
        self.at(address)?.take(length)
    }
}

/// Reads forward.
#[derive(Clone, Copy)]
struct Cursor<'a> {
    left: &'a [u8],
    offset: usize,
    length: usize,
}

impl<'a> Cursor<'a> {
    fn over(self, bytes: &[u8]) -> Cursor<'_> {
        Cursor { left: bytes, offset: self.offset, length: self.length }
    }

    fn take(&mut self, length: u64) -> Read<&'a [u8]> {
        let length = usize::try_from(length).ok();
        let split = length.and_then(|length| self.left.split_at_checked(length));
        let (taken, rest) = split.ok_or(Stop::Malformed("it ends inside a structure"))?;
        self.left = rest;
        Ok(taken)
    }

    /// A little-endian number of so many bytes; all ones is [`UNDEFINED`].
    fn number(&mut self, width: usize) -> Read<u64> {
        let bytes = self.take(width as u64)?;
        if 8 <= width && bytes.iter().all(|byte| *byte == 0xff)
            || width == self.offset && bytes.iter().all(|b| *b == 0xff)
        {
            return Ok(UNDEFINED);
        }
        Ok(bytes.iter().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn byte(&mut self) -> Read<u8> {
        Ok(self.take(1)?[0])
    }

    fn address(&mut self) -> Read<u64> {
        self.number(self.offset)
    }

    fn size(&mut self) -> Read<u64> {
        self.number(self.length)
    }

    fn magic(&mut self, magic: &[u8]) -> Read<()> {
        match self.take(magic.len() as u64)? == magic {
            true => Ok(()),
            false => Err(Stop::Malformed("a structure has the wrong signature")),
        }
    }
}

struct Walk<'a, 'c> {
    file: File<'a>,
    /// Headers already walked: links may form circles.
    seen: HashSet<u64>,
    context: &'c mut Context,
}

impl<'a> Walk<'a, '_> {
    fn report(&mut self, stop: &Stop, place: &str) {
        match stop {
            Stop::Malformed(why) => {
                self.context.malformed("hdf5-malformed", place, format!("the HDF5 file is malformed: {why}"));
            }
            Stop::Unread(what) => {
                let message = format!("a part of the HDF5 file cannot be looked into: {what}");
                self.context.attack("hdf5-unread", Severity::Medium, place, message);
            }
        }
    }

    /// Reads the superblock; the address of the root group's header.
    fn superblock(&mut self) -> Read<u64> {
        let mut cursor = Cursor { left: &self.file.bytes[self.file.base as usize..], offset: 8, length: 8 };
        cursor.magic(MAGIC)?;
        let version = cursor.byte()?;
        match version {
            0 | 1 => drop(cursor.take(4)?),
            2 | 3 => {}
            _ => return Err(Stop::Unread("its version is newer")),
        }
        let (offset, length) = (usize::from(cursor.byte()?), usize::from(cursor.byte()?));
        if !matches!((offset, length), (2 | 4 | 8, 2 | 4 | 8)) {
            return Err(Stop::Malformed("addresses have an impossible size"));
        }
        (cursor.offset, cursor.length) = (offset, length);
        (self.file.offset, self.file.length) = (offset, length);
        cursor.take(match version {
            0 => 1 + 4 + 4,
            1 => 1 + 4 + 4 + 4,
            _ => 1,
        })?;
        let base = cursor.address()?;
        // The base is the file's own beginning, in a user block or not; anything else misleads other readers.
        if base != self.file.base && base != 0 {
            return Err(Stop::Malformed("its base address is not where it begins"));
        }
        let _extension_or_free_space = cursor.address()?;
        let end = cursor.address()?;
        let driver_or_root = cursor.address()?;
        if end != UNDEFINED && (self.file.bytes.len() as u64) < end {
            return Err(Stop::Malformed("it ends early"));
        }
        if 2 <= version {
            return Ok(driver_or_root);
        }
        if driver_or_root != UNDEFINED {
            return Err(Stop::Unread("it is spread over several files"));
        }
        let _name = cursor.address()?;
        cursor.address()
    }

    /// Walks an object and, when it is a group, what is in it.
    fn object(&mut self, address: u64, path: &str, depth: usize) -> Read<()> {
        if !self.seen.insert(address) || self.context.is_full() {
            return Ok(());
        }
        if OBJECTS_MAX < self.seen.len() || DEPTH_MAX <= depth {
            let message = "the file has more groups than are followed";
            self.context.attack("hdf5-bomb", Severity::Medium, path, message);
            return Ok(());
        }
        let messages = message::header(self.file, address, MESSAGES_MAX)?;
        for message in &messages {
            if let Err(stop) = self.message(message, path, depth) {
                self.report(&stop, path);
            }
        }
        Ok(())
    }

    fn message(&mut self, message: &Message<'a>, path: &str, depth: usize) -> Read<()> {
        if message.shared {
            // Types and spaces are shared, which changes nothing; a shared link or layout would hide.
            return match message.kind {
                0x06..=0x08 => Err(Stop::Unread("a link or layout is stored elsewhere")),
                _ => Ok(()),
            };
        }
        match message.kind {
            0x01 => self.space(message, path),
            0x02 => self.dense_links(message, path, depth),
            0x06 => self.link(message.cursor(self.file), path, depth),
            0x07 => self.external(message, path),
            0x08 => self.layout(message, path),
            0x0c => self.attribute(message.cursor(self.file), path),
            0x11 => self.old_group(message, path, depth),
            0x15 => self.dense_attributes(message, path),
            _ => Ok(()),
        }
    }

    /// The size of a dataset.
    fn space(&mut self, message: &Message<'a>, path: &str) -> Read<()> {
        let values = message::values(&mut message.cursor(self.file))?;
        if values.is_none_or(|values| VALUES_MAX < values) {
            let message = "a dataset claims more values than any memory holds";
            self.context.attack("hdf5-size-bomb", Severity::Medium, path, message);
        }
        Ok(())
    }

    /// One link of a group: hard, soft, or to another file.
    fn link(&mut self, mut cursor: Cursor<'a>, path: &str, depth: usize) -> Read<()> {
        let (kind, name) = message::link(&mut cursor)?;
        let inner = format!("{}/{}", path.trim_end_matches('/'), quote(&name));
        match kind {
            0 => {
                let address = cursor.address()?;
                if let Err(stop) = self.object(address, &inner, depth + 1) {
                    self.report(&stop, &inner);
                }
            }
            1 => {}
            64 => {
                let length = cursor.number(2)?;
                let target = String::from_utf8_lossy(cursor.take(length)?).replace('\0', " ");
                let message = format!("a link leads into another file, {}", quote(target.trim()));
                self.context.attack("hdf5-external-link", Severity::High, &inner, message);
            }
            kind => {
                let message = format!("a link is of the kind {kind}, which a library from outside follows");
                self.context.attack("hdf5-external-link", Severity::Medium, &inner, message);
            }
        }
        Ok(())
    }

    fn external(&mut self, message: &Message<'a>, path: &str) -> Read<()> {
        let mut cursor = message.cursor(self.file);
        cursor.take(4)?;
        let (_allocated, used) = (cursor.number(2)?, cursor.number(2)?);
        let heap = cursor.address()?;
        let name = (0 < used).then(|| {
            let offset = cursor.size()?;
            heap::local_text(self.file, heap, offset)
        });
        let name = name.transpose().unwrap_or_default().unwrap_or_default();
        let message = format!("a dataset's values lie in another file, {}", quote(&name));
        self.context.attack("hdf5-external-data", Severity::High, path, message);
        Ok(())
    }

    fn layout(&mut self, message: &Message<'a>, path: &str) -> Read<()> {
        let mut cursor = message.cursor(self.file);
        let version = cursor.byte()?;
        if 3 <= version && cursor.byte()? == 3 {
            let message = "a dataset is put together from others, which may lie in other files";
            self.context.attack("hdf5-virtual", Severity::High, path, message);
        }
        Ok(())
    }

    /// A group of the old kind.
    fn old_group(&mut self, message: &Message<'a>, path: &str, depth: usize) -> Read<()> {
        let mut cursor = message.cursor(self.file);
        let (tree, heap) = (cursor.address()?, cursor.address()?);
        for entry in tree::symbols(self.file, tree)? {
            let name = heap::local_text(self.file, heap, entry.name)?;
            let inner = format!("{}/{}", path.trim_end_matches('/'), quote(&name));
            // A soft link has no header of its own.
            if entry.cache == 2 || entry.header == UNDEFINED {
                continue;
            }
            if let Err(stop) = self.object(entry.header, &inner, depth + 1) {
                self.report(&stop, &inner);
            }
        }
        Ok(())
    }

    /// Links that do not fit the header.
    fn dense_links(&mut self, message: &Message<'a>, path: &str, depth: usize) -> Read<()> {
        let mut cursor = message.cursor(self.file);
        cursor.byte()?;
        if cursor.byte()? & 1 != 0 {
            cursor.take(8)?;
        }
        let (heap, names) = (cursor.address()?, cursor.address()?);
        if heap == UNDEFINED {
            return Ok(());
        }
        let heap = heap::Fractal::open(self.file, heap)?;
        for record in tree::records(self.file, names)? {
            // Records of links by name: a hash, then the place in the heap.
            let mut record = cursor.over(record);
            record.take(4)?;
            let object = heap.object(record.left)?;
            self.link(cursor.over(object), path, depth)?;
        }
        Ok(())
    }

    /// Attributes that do not fit the header.
    fn dense_attributes(&mut self, message: &Message<'a>, path: &str) -> Read<()> {
        let mut cursor = message.cursor(self.file);
        cursor.byte()?;
        if cursor.byte()? & 1 != 0 {
            cursor.take(2)?;
        }
        let (heap, names) = (cursor.address()?, cursor.address()?);
        if heap == UNDEFINED {
            return Ok(());
        }
        let heap = heap::Fractal::open(self.file, heap)?;
        for record in tree::records(self.file, names)? {
            let object = heap.object(record)?;
            self.attribute(cursor.over(object), path)?;
        }
        Ok(())
    }

    /// An attribute: its text, when it is a configuration.
    fn attribute(&mut self, mut cursor: Cursor<'_>, path: &str) -> Read<()> {
        let Some((name, texts)) = message::attribute(self.file, &mut cursor)? else { return Ok(()) };
        let place = format!("{path}@{}", quote(&name));
        for text in texts {
            let text = text.trim_ascii();
            if matches!(text, [b'{' | b'[', ..])
                && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
            {
                self.context.inside(&place, |context| crate::scan::document::json(text, context));
            } else if matches!(&*name, "model_config" | "training_config") {
                let message = "the configuration is no JSON";
                self.context.malformed("hdf5-malformed", &place, message);
            } else if matches!(text, [0x80, 2..=5, ..]) {
                self.context.inside(&place, |context| crate::scan::inspect(text, context));
            }
        }
        Ok(())
    }
}
