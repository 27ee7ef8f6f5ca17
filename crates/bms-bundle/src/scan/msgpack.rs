//! MessagePack: Flax checkpoints, and pickles in its extension types.
//!
//! Source: <https://github.com/msgpack/msgpack/blob/master/spec.md>, `flax/serialization.py`, `msgpack_numpy.py`.

use crate::Severity;
use crate::scan::{Context, Format, format, inspect};

/// Containers inside containers.
const DEPTH_MAX: usize = 64;
/// Values of one file.
const VALUES_MAX: u64 = 20_000_000;
/// Values read to find out whether a file is MessagePack.
const TRIAL_VALUES_MAX: u64 = 4096;

/// Whether the file is a map or an array of MessagePack: whole, or, beyond what is tried, as far as it was read.
/// There is no magic, so a byte too much or too few tells.
pub(crate) fn is_document(bytes: &[u8]) -> bool {
    if !matches!(bytes, [0x81..=0x8f | 0x91..=0x9f | 0xdc..=0xdf, ..]) || bytes.len() < 4 {
        return false;
    }
    let mut reader = Reader {
        left: bytes,
        values_left: TRIAL_VALUES_MAX,
        depth: 0,
        depth_max: 0,
        context: None,
        keyed: 0,
    };
    match reader.value() {
        Some(()) => reader.left.is_empty(),
        // Maps keyed by names do not come about by accident.
        // Neither does so much nesting.
        None => {
            reader.values_left == 0 && TRIAL_VALUES_MAX / 64 < reader.keyed || reader.depth_max == DEPTH_MAX
        }
    }
}

/// Scans a file that [`is_document`].
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    let mut reader = Reader {
        left: bytes,
        values_left: VALUES_MAX,
        depth: 0,
        depth_max: 0,
        context: Some(context),
        keyed: 0,
    };
    let whole = reader.value().is_some();
    let spent = reader.values_left == 0;
    if !whole && spent {
        context.attack(
            "msgpack-bomb",
            Severity::Medium,
            "",
            "the document has more values than are followed",
        );
    } else if !whole {
        context.malformed("msgpack-malformed", "", "the document cannot be read to its end");
    }
}

struct Reader<'a, 'c> {
    left: &'a [u8],
    values_left: u64,
    depth: usize,
    /// The deepest so far.
    depth_max: usize,
    /// Where findings go; nothing is looked into without.
    context: Option<&'c mut Context>,
    /// Map keys that are texts.
    keyed: u64,
}

impl<'a> Reader<'a, '_> {
    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.left.split_at_checked(usize::try_from(length).ok()?)?;
        self.left = rest;
        Some(taken)
    }

    fn number(&mut self, width: u64) -> Option<u64> {
        Some(self.take(width)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn value(&mut self) -> Option<()> {
        self.values_left = self.values_left.checked_sub(1)?;
        let code = *self.take(1)?.first()?;
        match code {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => Some(()),
            0x80..=0x8f => self.map(u64::from(code & 15)),
            0x90..=0x9f => self.array(u64::from(code & 15)),
            0xa0..=0xbf => self.take(u64::from(code & 31)).map(drop),
            0xc4..=0xc6 => {
                let length = self.number(1 << (code - 0xc4))?;
                let content = self.take(length)?;
                self.content("binary", content);
                Some(())
            }
            0xc7..=0xc9 => {
                let length = self.number(1 << (code - 0xc7))?;
                self.extension(length)
            }
            0xd4..=0xd8 => self.extension(1 << (code - 0xd4)),
            0xca | 0xce | 0xd2 => self.take(4).map(drop),
            0xcb | 0xcf | 0xd3 => self.take(8).map(drop),
            0xcc | 0xd0 => self.take(1).map(drop),
            0xcd | 0xd1 => self.take(2).map(drop),
            0xd9..=0xdb => {
                let length = self.number(1 << (code - 0xd9))?;
                let content = self.take(length)?;
                self.content("text", content);
                Some(())
            }
            0xdc => self.number(2).and_then(|length| self.array(length)),
            0xdd => self.number(4).and_then(|length| self.array(length)),
            0xde => self.number(2).and_then(|length| self.map(length)),
            0xdf => self.number(4).and_then(|length| self.map(length)),
            0xc1 => None,
        }
    }

    fn array(&mut self, length: u64) -> Option<()> {
        self.nested(|reader| (0..length).try_for_each(|_| reader.value()))
    }

    fn map(&mut self, length: u64) -> Option<()> {
        self.nested(|reader| {
            (0..length).try_for_each(|_| {
                self_keyed(reader);
                reader.value()?;
                reader.value()
            })
        })
    }

    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        if DEPTH_MAX <= self.depth {
            if let Some(context) = &mut self.context {
                context.attack("msgpack-bomb", Severity::Medium, "", "the document is nested too deeply");
            }
            return None;
        }
        self.depth += 1;
        self.depth_max = self.depth_max.max(self.depth);
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn extension(&mut self, length: u64) -> Option<()> {
        let kind = *self.take(1)?.first()?;
        let content = self.take(length)?;
        self.content(&format!("extension {}", kind as i8), content);
        Some(())
    }

    /// Looks into a value that could be a file of its own.
    fn content(&mut self, what: &str, content: &[u8]) {
        let Some(context) = &mut self.context else { return };
        if content.len() < 2 || context.is_full() {
            return;
        }
        let found = format::identify(content);
        if matches!(found, Format::Pickle | Format::Executable | Format::Zip) {
            let message = format!("a value hides {found}, which some readers run");
            context.attack("msgpack-hidden", Severity::High, what, message);
            context.inside(what, |context| inspect(content, context));
        }
        // Flax's arrays: shape, type and bytes, packed once more.
        if what.starts_with("extension") && is_document(content) {
            context.inside(what, |context| scan(content, context));
        }
    }
}

/// Counts keys that are texts.
fn self_keyed(reader: &mut Reader<'_, '_>) {
    reader.keyed += u64::from(matches!(reader.left, [0xa1..=0xbf | 0xd9, ..]));
}
