//! B-trees: of the first version for old groups, of the second for names of links and attributes.

use super::{File, Read, Stop};

/// Entries of one tree.
const ENTRIES_MAX: usize = 1_000_000;
/// Levels of one tree.
const LEVELS_MAX: u64 = 16;

/// An entry of an old group.
pub(super) struct Symbol {
    /// Where its name stands in the heap.
    pub(super) name: u64,
    pub(super) header: u64,
    /// What is kept of it: 2 for a soft link.
    pub(super) cache: u64,
}

/// The entries of an old group.
pub(super) fn symbols(file: File<'_>, root: u64) -> Read<Vec<Symbol>> {
    let mut symbols = Vec::new();
    let mut pending = vec![(root, None)];
    let mut nodes = 0_usize;
    while let Some((address, expected)) = pending.pop() {
        nodes += 1;
        if ENTRIES_MAX < nodes.max(symbols.len()).max(pending.len()) {
            return Err(Stop::Malformed("a group goes on for ever"));
        }
        let mut cursor = file.at(address)?;
        if cursor.left.starts_with(b"SNOD") {
            cursor.take(6)?;
            for _ in 0..cursor.number(2)? {
                let (name, header) = (cursor.address()?, cursor.address()?);
                let cache = cursor.number(4)?;
                cursor.take(4 + 16)?;
                symbols.push(Symbol { name, header, cache });
            }
            continue;
        }
        cursor.magic(b"TREE")?;
        let (kind, level, used) = (cursor.byte()?, u64::from(cursor.byte()?), cursor.number(2)?);
        if kind != 0 || LEVELS_MAX < level || expected.is_some_and(|expected| expected != level) {
            return Err(Stop::Malformed("a group's tree is malformed"));
        }
        cursor.address()?;
        cursor.address()?;
        cursor.size()?;
        for _ in 0..used {
            pending.push((cursor.address()?, level.checked_sub(1)));
            cursor.size()?;
        }
    }
    Ok(symbols)
}

/// The records of a tree of the second version, in any order.
pub(super) fn records(file: File<'_>, address: u64) -> Read<Vec<&[u8]>> {
    let mut cursor = file.at(address)?;
    cursor.magic(b"BTHD")?;
    cursor.take(2)?;
    let (node_bytes, record_bytes, depth) = (cursor.number(4)?, cursor.number(2)?, cursor.number(2)?);
    cursor.take(2)?;
    let (root, root_records) = (cursor.address()?, cursor.number(2)?);
    if LEVELS_MAX < depth || record_bytes == 0 {
        return Err(Stop::Malformed("a tree has an impossible shape"));
    }
    if root_records == 0 {
        return Ok(Vec::new());
    }
    let shape = Shape::new(node_bytes, record_bytes, depth, file.offset as u64);
    let mut records = Vec::new();
    let mut pending = vec![(root, root_records, depth)];
    let mut nodes = 0_usize;
    while let Some((address, count, level)) = pending.pop() {
        nodes += 1;
        if ENTRIES_MAX < nodes.max(records.len()).max(pending.len()) {
            return Err(Stop::Malformed("a tree goes on for ever"));
        }
        let mut cursor = file.at(address)?;
        cursor.magic(if level == 0 { b"BTLF" } else { b"BTIN" })?;
        cursor.take(2)?;
        for _ in 0..count {
            records.push(cursor.take(record_bytes)?);
        }
        if level == 0 {
            continue;
        }
        for _ in 0..=count {
            let child = cursor.address()?;
            let child_records = cursor.number(shape.count_bytes())?;
            if 1 < level {
                cursor.take(shape.total_bytes(level - 1) as u64)?;
            }
            pending.push((child, child_records, level - 1));
        }
    }
    Ok(records)
}

/// How many records fit a node of each level, which says how wide the counts are stored.
struct Shape {
    /// For each level: records of a node, and records of all below it.
    levels: Vec<(u64, u64)>,
}

impl Shape {
    fn new(node_bytes: u64, record_bytes: u64, depth: u64, offset_bytes: u64) -> Shape {
        let leaf = node_bytes.saturating_sub(10) / record_bytes;
        let mut shape = Shape { levels: vec![(leaf, leaf)] };
        for level in 1..=depth {
            let pointer = offset_bytes
                + shape.count_bytes() as u64
                + if 1 < level { shape.total_bytes(level - 1) as u64 } else { 0 };
            let records = node_bytes.saturating_sub(10 + pointer) / (record_bytes + pointer);
            let below = shape.levels[level as usize - 1].1;
            let total = records.saturating_add(1).saturating_mul(below).saturating_add(records);
            shape.levels.push((records, total));
        }
        shape
    }

    /// Counts of records are stored as wide as a leaf's, at every level.
    fn count_bytes(&self) -> usize {
        width(self.levels[0].0)
    }

    fn total_bytes(&self, level: u64) -> usize {
        width(self.levels[level as usize].1)
    }
}

fn width(max: u64) -> usize {
    (64 - max.leading_zeros() as usize).div_ceil(8).max(1)
}
