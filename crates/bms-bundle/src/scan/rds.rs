//! R's serialised objects: promises in them are evaluated when the object is used.
//!
//! Source: `R-ints`, section 1.8, and `src/main/serialize.c`. CVE-2024-27322.

use crate::Severity;
use crate::scan::Context;

/// Objects inside objects. Lists are chains, which are walked in a loop.
const DEPTH_MAX: usize = 256;
/// Objects of one file.
const OBJECTS_MAX: u64 = 50_000_000;

/// Whether the file is a serialised object, alone or in a saved workspace.
pub(crate) fn is_object(bytes: &[u8]) -> bool {
    let bytes = workspace(bytes);
    // Format, version 2 or 3, the R that wrote it.
    matches!(bytes, [b'X', b'\n', 0, 0, 0, 2 | 3, 0, 1..=9, _, _, ..])
        || bytes.starts_with(b"A\n2\n")
        || bytes.starts_with(b"A\n3\n")
        || matches!(bytes, [b'B', b'\n', 2 | 3, 0, 0, 0, _, _, 1..=9, 0, ..])
}

fn workspace(bytes: &[u8]) -> &[u8] {
    [&b"RDX2\n"[..], b"RDX3\n", b"RDA2\n", b"RDA3\n"]
        .iter()
        .find_map(|magic| bytes.strip_prefix(*magic))
        .unwrap_or(bytes)
}

/// Scans a file that [`is_object`].
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    let bytes = workspace(bytes);
    if !bytes.starts_with(b"X\n") {
        let message = "the R object is stored in a form that is not looked into";
        return context.attack("rds-unread", Severity::Medium, "", message);
    }
    let mut reader = Reader { left: &bytes[2..], objects_left: OBJECTS_MAX, context };
    let header = reader.header();
    let whole = header.and_then(|()| reader.object(0));
    let (spent, rest) = (reader.objects_left == 0, reader.left.len());
    match whole {
        None if spent => {
            context.attack("rds-bomb", Severity::Medium, "", "the object has more parts than are followed")
        }
        None => context.malformed("rds-malformed", "", "the R object cannot be read to its end"),
        Some(()) if 0 < rest => {
            context.attack("rds-trailing", Severity::Medium, "", format!("{rest} bytes follow the R object"));
        }
        Some(()) => {}
    }
}

struct Reader<'a, 'c> {
    left: &'a [u8],
    objects_left: u64,
    context: &'c mut Context,
}

impl<'a> Reader<'a, '_> {
    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.left.split_at_checked(usize::try_from(length).ok()?)?;
        self.left = rest;
        Some(taken)
    }

    fn word(&mut self) -> Option<u32> {
        let bytes = self.take(4)?;
        Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn header(&mut self) -> Option<()> {
        let version = self.word()?;
        self.take(8)?;
        if version == 3 {
            let length = self.word()?;
            self.take(u64::from(length))?;
        }
        Some(())
    }

    /// A length; those over 31 bits take three words.
    fn length(&mut self) -> Option<u64> {
        match self.word()? {
            u32::MAX => Some(u64::from(self.word()?) << 32 | u64::from(self.word()?)),
            length => Some(u64::from(length)),
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        if DEPTH_MAX <= depth {
            self.context.attack("rds-bomb", Severity::Medium, "", "the object is nested too deeply");
            return None;
        }
        // Pairs are chained by their last part.
        while self.one(depth)? {}
        Some(())
    }

    /// Reads one object up to its last part; `true` when that is still to come.
    fn one(&mut self, depth: usize) -> Option<bool> {
        self.objects_left = self.objects_left.checked_sub(1)?;
        let flags = self.word()?;
        let (attributes, tag) = (flags & 0x200 != 0, flags & 0x400 != 0);
        match flags & 0xff {
            // Nothing, the environments and values that have a number of their own.
            254 | 253 | 242 | 241 | 251 | 252 | 0 => return Some(false),
            255 => {
                if flags >> 8 == 0 {
                    self.word()?;
                }
                return Some(false);
            }
            1 => return self.object(depth + 1).map(|()| false),
            kind @ (2 | 3 | 5 | 6 | 17) => {
                if kind == 5 {
                    let message = "the object holds a promise, code that runs when the object is used";
                    self.context.attack("rds-promise", Severity::Critical, "", message);
                }
                // Attributes and a tag when there are any, and the part itself.
                let objects = 1 + u8::from(attributes) + u8::from(tag);
                (0..objects).try_for_each(|_| self.object(depth + 1))?;
                return Some(true);
            }
            4 => {
                self.word()?;
                (0..4).try_for_each(|_| self.object(depth + 1))?;
                return Some(false);
            }
            9 => {
                if let length @ 0..=0x7fff_ffff = self.word()? {
                    self.take(u64::from(length))?;
                }
            }
            7 | 8 => {
                let length = self.word()?;
                self.take(u64::from(length))?;
            }
            10 | 13 => self.numbers(4)?,
            14 => self.numbers(8)?,
            15 => self.numbers(16)?,
            24 => self.numbers(1)?,
            16 | 19 | 20 => {
                let length = self.length()?;
                (0..length).try_for_each(|_| self.object(depth + 1))?;
            }
            25 => {}
            // Packages, name spaces and persistent names: texts.
            247..=249 => {
                self.word()?;
                let length = self.word()?;
                (0..length).try_for_each(|_| self.object(depth + 1))?;
            }
            238 => (0..3).try_for_each(|_| self.object(depth + 1))?,
            kind => {
                let message = format!(
                    "the object holds a part of the kind {kind}: byte code, a pointer, or none of R's"
                );
                self.context.attack("rds-code", Severity::Medium, "", message);
                return None;
            }
        }
        if attributes && flags & 0xff != 9 {
            self.object(depth + 1)?;
        }
        Some(false)
    }

    fn numbers(&mut self, width: u64) -> Option<()> {
        let length = self.length()?;
        self.take(length.checked_mul(width)?).map(drop)
    }
}
