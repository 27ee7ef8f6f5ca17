//! The records of a ZIP archive.

/// End-of-directory record without its comment.
const END_BYTES: usize = 22;
/// Bytes before the end in which the end record must begin.
const SEARCH_BYTES: usize = END_BYTES + 0xffff;

/// Where the directory lies, in bytes of the file.
pub(super) struct Directory {
    /// Its first byte.
    pub(super) begin: u64,
    /// The first byte after the archive, comment included.
    pub(super) end: u64,
    /// How many members it lists.
    pub(super) members: u64,
    /// Bytes before the archive, to be added to every offset.
    pub(super) shift: u64,
    /// Whether another end record could be taken for the true one.
    pub(super) rivals: bool,
}

/// A member as the directory describes it.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) packed: u64,
    pub(super) size: u64,
    pub(super) offset: u64,
    /// Unix mode, or zero.
    pub(super) mode: u32,
}

/// A member as its own header describes it.
pub(super) struct Local {
    pub(super) name: String,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) packed: u64,
    pub(super) size: u64,
    /// First byte of its data.
    pub(super) data: u64,
}

/// Finds the directory. The record that reaches to the end of the file counts; without one, the
/// last record does.
pub(super) fn find(bytes: &[u8]) -> Option<Directory> {
    let from = bytes.len().saturating_sub(SEARCH_BYTES);
    let ends: Vec<usize> = (from..bytes.len().saturating_sub(END_BYTES - 1))
        .filter(|at| bytes[*at..].starts_with(b"PK\x05\x06"))
        .collect();
    let comment_end = |at: &usize| Some(at + END_BYTES + usize::from(u16_at(bytes, at + 20)?));
    let last = *ends.last()?;
    let exact = ends.iter().copied().find(|at| comment_end(at) == Some(bytes.len()));
    let at = exact.unwrap_or(last);
    let end = comment_end(&at)?.min(bytes.len());
    let (mut members, mut size, mut offset) = (
        u64::from(u16_at(bytes, at + 10)?),
        u64::from(u32_at(bytes, at + 12)?),
        u64::from(u32_at(bytes, at + 16)?),
    );
    let mut record = at;
    if let Some(large) = large_record(bytes, at) {
        members = u64_at(bytes, large + 32)?;
        size = u64_at(bytes, large + 40)?;
        offset = u64_at(bytes, large + 48)?;
        record = large;
    }
    let begin = (record as u64).checked_sub(size)?;
    let shift = begin.checked_sub(offset)?;
    Some(Directory { begin, end: end as u64, members, shift, rivals: at != last })
}

/// The 64-bit end record, which lies before its locator, which lies before the end record.
fn large_record(bytes: &[u8], end: usize) -> Option<usize> {
    let locator = end.checked_sub(20)?;
    if !bytes[locator..].starts_with(b"PK\x06\x07") {
        return None;
    }
    // By position rather than by the offset it names, which bytes before the archive shift.
    let record = locator.checked_sub(56)?;
    bytes[record..].starts_with(b"PK\x06\x06").then_some(record)
}

/// The members the directory lists. `None` when it is malformed.
pub(super) fn members(bytes: &[u8], directory: &Directory) -> Option<Vec<Member>> {
    let mut list = Vec::new();
    let mut at = usize::try_from(directory.begin).ok()?;
    while bytes.get(at..)?.starts_with(b"PK\x01\x02") {
        let (name_len, extra_len, comment_len) = (
            usize::from(u16_at(bytes, at + 28)?),
            usize::from(u16_at(bytes, at + 30)?),
            u16_at(bytes, at + 32)?,
        );
        let name = bytes.get(at + 46..at + 46 + name_len)?;
        let extra = bytes.get(at + 46 + name_len..at + 46 + name_len + extra_len)?;
        let mut member = Member {
            name: String::from_utf8_lossy(name).into_owned(),
            flags: u16_at(bytes, at + 8)?,
            method: u16_at(bytes, at + 10)?,
            crc: u32_at(bytes, at + 16)?,
            packed: u64::from(u32_at(bytes, at + 20)?),
            size: u64::from(u32_at(bytes, at + 24)?),
            offset: u64::from(u32_at(bytes, at + 42)?),
            mode: u32_at(bytes, at + 38)? >> 16,
        };
        let large = [&mut member.size, &mut member.packed, &mut member.offset];
        widen(extra, large);
        list.push(member);
        at += 46 + name_len + extra_len + usize::from(comment_len);
    }
    (list.len() as u64 & 0xffff == directory.members & 0xffff).then_some(list)
}

/// Replaces fields that did not fit 32 bits by those of the 64-bit extra field, in its order.
fn widen(extra: &[u8], fields: [&mut u64; 3]) {
    let mut left = extra;
    while let (Some(kind), Some(length)) = (u16_at(left, 0), u16_at(left, 2)) {
        let Some(body) = left.get(4..4 + usize::from(length)) else { return };
        if kind == 1 {
            let mut values = body.chunks_exact(8).map(|chunk| u64_at(chunk, 0).unwrap_or(u64::MAX));
            for field in fields {
                if *field == u64::from(u32::MAX) {
                    *field = values.next().unwrap_or(*field);
                }
            }
            return;
        }
        left = &left[4 + body.len()..];
    }
}

/// The member's own header at `at`.
pub(super) fn local(bytes: &[u8], at: u64) -> Option<Local> {
    let at = usize::try_from(at).ok()?;
    let header = bytes.get(at..)?;
    if !header.starts_with(b"PK\x03\x04") {
        return None;
    }
    let (name_len, extra_len) = (usize::from(u16_at(header, 26)?), usize::from(u16_at(header, 28)?));
    let name = header.get(30..30 + name_len)?;
    Some(Local {
        name: String::from_utf8_lossy(name).into_owned(),
        flags: u16_at(header, 6)?,
        method: u16_at(header, 8)?,
        crc: u32_at(header, 14)?,
        packed: u64::from(u32_at(header, 18)?),
        size: u64::from(u32_at(header, 22)?),
        data: (at + 30 + name_len + extra_len) as u64,
    })
}

/// The members by their own headers, one after the other from the start.
pub(super) fn sequential(bytes: &[u8]) -> impl Iterator<Item = Member> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let own = local(bytes, at)?;
        let offset = at;
        at = own.data.checked_add(own.packed)?;
        Some(Member {
            name: own.name,
            flags: own.flags,
            method: own.method,
            crc: own.crc,
            packed: own.packed,
            size: own.size,
            offset,
            mode: 0,
        })
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
