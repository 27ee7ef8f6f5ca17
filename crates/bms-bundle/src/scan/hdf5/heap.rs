//! Heaps: of names, of texts of variable length, and of links and attributes that do not fit a header.

use super::{Cursor, File, Read, Stop, UNDEFINED};

/// Rows of a doubling table: more would hold more than an address reaches.
const ROWS_MAX: u64 = 64;

/// A text of a local heap.
pub(super) fn local_text(file: File<'_>, heap: u64, offset: u64) -> Read<String> {
    let mut cursor = file.at(heap)?;
    cursor.magic(b"HEAP")?;
    cursor.take(4)?;
    let (size, _free, data) = (cursor.size()?, cursor.size()?, cursor.address()?);
    let segment = file.slice(data, size)?;
    let from = usize::try_from(offset).ok().and_then(|offset| segment.get(offset..));
    let text = from.ok_or(Stop::Malformed("a name lies beyond its heap"))?;
    Ok(String::from_utf8_lossy(text.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned())
}

/// An object of a global heap.
pub(super) fn global(file: File<'_>, heap: u64, index: u64) -> Read<&[u8]> {
    let mut cursor = file.at(heap)?;
    let size = cursor.over(cursor.left.get(8..).unwrap_or_default()).size()?;
    let mut cursor = cursor.over(cursor.take(size)?);
    cursor.magic(b"GCOL")?;
    cursor.take(4)?;
    cursor.size()?;
    while 16 <= cursor.left.len() {
        let found = cursor.number(2)?;
        cursor.take(6)?;
        let length = cursor.size()?;
        if found == 0 {
            break;
        }
        let object = cursor.take(length)?;
        if found == index {
            return Ok(object);
        }
        let padding = length.next_multiple_of(8) - length;
        cursor.take(padding.min(cursor.left.len() as u64))?;
    }
    Err(Stop::Malformed("a text is not in its heap"))
}

/// A fractal heap: objects in blocks of growing size.
pub(super) struct Fractal<'a> {
    file: File<'a>,
    id_bytes: u64,
    offset_bytes: usize,
    length_bytes: usize,
    width: u64,
    start_bytes: u64,
    direct_bytes_max: u64,
    root: u64,
    root_rows: u64,
}

impl<'a> Fractal<'a> {
    /// Reads the heap's header.
    pub(super) fn open(file: File<'a>, address: u64) -> Read<Fractal<'a>> {
        let mut cursor = file.at(address)?;
        cursor.magic(b"FRHP")?;
        cursor.byte()?;
        let (id_bytes, filter, _flags) = (cursor.number(2)?, cursor.number(2)?, cursor.byte()?);
        if filter != 0 {
            return Err(Stop::Unread("names are compressed"));
        }
        let object_bytes_max = cursor.number(4)?;
        // Huge objects, free space, and counts of managed, huge and tiny objects.
        cursor.size()?;
        cursor.address()?;
        cursor.size()?;
        cursor.address()?;
        for _ in 0..8 {
            cursor.size()?;
        }
        let width = cursor.number(2)?;
        let (start_bytes, direct_bytes_max) = (cursor.size()?, cursor.size()?);
        let heap_bits = cursor.number(2)?;
        let _root_rows_at_start = cursor.number(2)?;
        let (root, root_rows) = (cursor.address()?, cursor.number(2)?);
        if width == 0 || start_bytes == 0 || ROWS_MAX < root_rows {
            return Err(Stop::Malformed("a heap has an impossible shape"));
        }
        let bytes_for = |max: u64| (64 - max.leading_zeros() as usize).div_ceil(8).max(1);
        Ok(Fractal {
            file,
            id_bytes,
            offset_bytes: (heap_bits as usize).div_ceil(8).clamp(1, 8),
            length_bytes: bytes_for(direct_bytes_max.min(object_bytes_max)),
            width,
            start_bytes,
            direct_bytes_max,
            root,
            root_rows,
        })
    }

    /// The object that a record's bytes name.
    pub(super) fn object(&self, id: &'a [u8]) -> Read<&'a [u8]> {
        let short = Stop::Malformed("a record is too short");
        let id = usize::try_from(self.id_bytes).ok().and_then(|length| id.get(..length)).ok_or(short)?;
        let mut cursor = Cursor { left: id, offset: self.file.offset, length: self.file.length };
        match cursor.byte()? >> 4 & 3 {
            0 => {
                let (offset, length) = (cursor.number(self.offset_bytes)?, cursor.number(self.length_bytes)?);
                self.managed(offset, length)
            }
            2 => Ok(&id[1..]),
            _ => Err(Stop::Unread("an object is stored by itself")),
        }
    }

    fn managed(&self, offset: u64, length: u64) -> Read<&'a [u8]> {
        if self.root_rows == 0 {
            return self.in_block(self.root, offset, length);
        }
        self.indirect(self.root, self.root_rows, offset, length, 0)
    }

    fn in_block(&self, block: u64, offset: u64, length: u64) -> Read<&'a [u8]> {
        // Offsets count from the block's own header on.
        let mut check = self.file.at(block)?;
        check.magic(b"FHDB")?;
        let place = block.checked_add(offset).ok_or(Stop::Malformed("an address overflows"))?;
        self.file.slice(place, length)
    }

    /// Bytes of each block of a row.
    fn row_bytes(&self, row: u64) -> u64 {
        self.start_bytes.checked_shl(row.saturating_sub(1) as u32).unwrap_or(u64::MAX)
    }

    fn indirect(&self, block: u64, rows: u64, mut offset: u64, length: u64, depth: usize) -> Read<&'a [u8]> {
        if 8 <= depth {
            return Err(Stop::Malformed("a heap is nested too deeply"));
        }
        let mut cursor = self.file.at(block)?;
        cursor.magic(b"FHIB")?;
        cursor.take(1 + self.file.offset as u64 + self.offset_bytes as u64)?;
        for row in 0..rows {
            let bytes = self.row_bytes(row);
            for _ in 0..self.width {
                let address = cursor.address()?;
                if bytes <= offset {
                    offset -= bytes;
                    continue;
                }
                if address == UNDEFINED {
                    return Err(Stop::Malformed("an object lies in a block that is not there"));
                }
                if bytes <= self.direct_bytes_max {
                    return self.in_block(address, offset, length);
                }
                let whole = self.start_bytes.saturating_mul(self.width);
                let inner = u64::from((bytes / whole.max(1)).max(1).ilog2()) + 1;
                return self.indirect(address, inner, offset, length, depth + 1);
            }
        }
        Err(Stop::Malformed("an object lies beyond its heap"))
    }
}
