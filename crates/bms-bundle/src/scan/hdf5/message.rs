//! Object headers and the messages in them.

use super::{Cursor, File, Read, Stop, heap};

/// Bytes of one attribute's text.
const TEXT_BYTES_MAX: u64 = 64 << 20;
/// Texts of one attribute that are looked at.
const TEXTS_MAX: u64 = 4096;
/// Axes of a dataset.
const RANK_MAX: u8 = 32;

/// One message.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    /// Whether it only says where the message lies.
    pub(super) shared: bool,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    pub(super) fn cursor(&self, file: File<'_>) -> Cursor<'a> {
        Cursor { left: self.body, offset: file.offset, length: file.length }
    }
}

/// The messages of the header at an address.
pub(super) fn header(file: File<'_>, address: u64, messages_max: usize) -> Read<Vec<Message<'_>>> {
    let mut cursor = file.at(address)?;
    let (first, prefix) = if cursor.left.starts_with(b"OHDR") {
        second_version(&mut cursor)?
    } else {
        first_version(&mut cursor)?
    };
    let mut messages = Vec::new();
    let mut blocks = vec![first];
    // Continuations count, too: they may form a circle.
    let mut read = 0;
    while let Some(mut block) = blocks.pop() {
        while prefix.bytes() <= block.left.len() {
            let (kind, size, flags) = prefix.read(&mut block)?;
            let body = block.take(size)?;
            read += 1;
            if messages_max < read {
                return Err(Stop::Malformed("a header goes on for ever"));
            }
            if kind == 0x10 {
                let mut place = block.over(body);
                let (address, length) = (place.address()?, place.size()?);
                let mut next = file.at(address)?;
                next = next.over(next.take(length)?);
                if prefix.second {
                    next.magic(b"OCHK")?;
                    next.left = next.left.get(..next.left.len().saturating_sub(4)).unwrap_or_default();
                }
                blocks.push(next);
                continue;
            }
            messages.push(Message { kind, shared: flags & 2 != 0, body });
        }
    }
    Ok(messages)
}

/// How a message begins.
#[derive(Clone, Copy)]
struct Prefix {
    second: bool,
    ordered: bool,
}

impl Prefix {
    fn bytes(self) -> usize {
        match self.second {
            true => 4 + if self.ordered { 2 } else { 0 },
            false => 8,
        }
    }

    fn read(self, cursor: &mut Cursor<'_>) -> Read<(u16, u64, u8)> {
        if self.second {
            let (kind, size, flags) = (u16::from(cursor.byte()?), cursor.number(2)?, cursor.byte()?);
            if self.ordered {
                cursor.take(2)?;
            }
            return Ok((kind, size, flags));
        }
        let (kind, size, flags) = (cursor.number(2)? as u16, cursor.number(2)?, cursor.byte()?);
        cursor.take(3)?;
        Ok((kind, size, flags))
    }
}

fn first_version<'a>(cursor: &mut Cursor<'a>) -> Read<(Cursor<'a>, Prefix)> {
    if cursor.byte()? != 1 {
        return Err(Stop::Malformed("an object has no header"));
    }
    cursor.take(1 + 2 + 4)?;
    let size = cursor.number(4)?;
    cursor.take(4)?;
    let block = cursor.take(size)?;
    Ok((cursor.over(block), Prefix { second: false, ordered: false }))
}

fn second_version<'a>(cursor: &mut Cursor<'a>) -> Read<(Cursor<'a>, Prefix)> {
    cursor.magic(b"OHDR")?;
    if cursor.byte()? != 2 {
        return Err(Stop::Unread("a header is of a newer version"));
    }
    let flags = cursor.byte()?;
    if flags & 0x20 != 0 {
        cursor.take(16)?;
    }
    if flags & 0x10 != 0 {
        cursor.take(4)?;
    }
    let size = cursor.number(1 << (flags & 3))?;
    let block = cursor.take(size)?;
    Ok((cursor.over(block), Prefix { second: true, ordered: flags & 4 != 0 }))
}

/// The number of values of a data space; `None` when it overflows.
pub(super) fn values(cursor: &mut Cursor<'_>) -> Read<Option<u64>> {
    let (version, rank) = (cursor.byte()?, cursor.byte()?);
    if RANK_MAX < rank {
        return Err(Stop::Malformed("a dataset has too many axes"));
    }
    cursor.take(if version == 1 { 6 } else { 2 })?;
    let mut values = Some(1_u64);
    for _ in 0..rank {
        let dim = cursor.size()?;
        values = values.and_then(|values| values.checked_mul(dim));
    }
    Ok(values)
}

/// Kind and name of a link; the cursor then stands before what the kind has.
pub(super) fn link(cursor: &mut Cursor<'_>) -> Read<(u8, String)> {
    if cursor.byte()? != 1 {
        return Err(Stop::Unread("a link is of a newer version"));
    }
    let flags = cursor.byte()?;
    let kind = if flags & 8 != 0 { cursor.byte()? } else { 0 };
    if flags & 4 != 0 {
        cursor.take(8)?;
    }
    if flags & 16 != 0 {
        cursor.byte()?;
    }
    let length = cursor.number(1 << (flags & 3))?;
    Ok((kind, String::from_utf8_lossy(cursor.take(length)?).into_owned()))
}

/// Name and texts of an attribute; `None` when it holds no texts.
pub(super) fn attribute(file: File<'_>, cursor: &mut Cursor<'_>) -> Read<Option<(String, Vec<Vec<u8>>)>> {
    let version = cursor.byte()?;
    let flags = cursor.byte()?;
    let (name, kind, space) = (cursor.number(2)?, cursor.number(2)?, cursor.number(2)?);
    match version {
        1 | 2 => {}
        3 => drop(cursor.byte()?),
        _ => return Err(Stop::Unread("an attribute is of a newer version")),
    }
    // Version 1 pads each part to eight bytes.
    let padded = |length: u64| if version == 1 { length.next_multiple_of(8) } else { length };
    let label = cursor.take(padded(name))?;
    let label =
        String::from_utf8_lossy(label.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    let kind = cursor.take(padded(kind))?;
    let space = cursor.take(padded(space))?;
    if flags & 3 != 0 {
        // Type or space lie elsewhere. Texts have types of their own.
        return match label.as_str() {
            "model_config" | "training_config" => Err(Stop::Unread("a configuration has a shared type")),
            _ => Ok(None),
        };
    }
    let count = values(&mut cursor.over(space))?.unwrap_or(u64::MAX);
    let count = count.min(TEXTS_MAX);
    let [class, bits, _, _, s0, s1, s2, s3, ..] = kind else {
        return Err(Stop::Malformed("a type is too short"));
    };
    let size = u64::from(u32::from_le_bytes([*s0, *s1, *s2, *s3]));
    let mut texts = Vec::new();
    match class & 15 {
        3 => {
            for _ in 0..count {
                texts.push(cursor.take(size)?.split(|byte| *byte == 0).next().unwrap_or_default().to_vec());
            }
        }
        // Of variable length: texts, or sequences of bytes.
        9 if bits & 15 <= 1 => {
            for _ in 0..count {
                let length = cursor.number(4)?;
                let (heap, index) = (cursor.address()?, cursor.number(4)?);
                if length == 0 || heap == 0 {
                    continue;
                }
                let text = heap::global(file, heap, index)?;
                if TEXT_BYTES_MAX < text.len() as u64 {
                    return Err(Stop::Unread("a text is too long"));
                }
                texts.push(text.to_vec());
            }
        }
        // Opaque bytes and arrays of numbers.
        5 => texts.push(cursor.take(size.saturating_mul(count))?.to_vec()),
        _ => return Ok(None),
    }
    Ok(Some((label, texts)))
}
