//! Interleaving the rows of a group.
//!
//! A block of the file becomes, for the sixteen rows of a group, a run of *sections*. A section holds one field of the
//! block for all sixteen rows, in one of three ways:
//!
//! - *halves*: 16-bit numbers (scales), lane after lane;
//! - *octets*: single bytes (packed scales of the K formats), for each position lane after lane;
//! - *words*: 32-bit words (codes), for each word of the field lane after lane.
//!
//! A section is exactly as long as sixteen of the fields it replaces.

use std::ops::Range;

use super::LANES;
use crate::{Format, Pool};

/// How one field of a block is laid out in a group.
#[derive(Clone, Copy)]
enum Section {
    /// Elements of so many bytes, interleaved.
    Elements(usize),
    /// Words of codes with bits flipped.
    Flipped(u32),
    /// The 32 fifth bits of Q5_0 and Q5_1: bit `j` of byte `b` becomes that of code `4 j + b`, where the kernels can
    /// mask it out for the four codes of word `j` at once.
    FifthBits,
}

/// The sections of a quantised block: where the field lies in the file's block, and how it is laid out. In this order in
/// a group.
fn sections(format: Format) -> &'static [(Range<usize>, Section)] {
    use Section::{Elements, FifthBits, Flipped};
    match format {
        Format::F32 | Format::F16 | Format::BF16 => &[],
        Format::Q4_0 => &[(0..2, Elements(2)), (2..18, Elements(4))],
        Format::Q4_1 => &[(0..2, Elements(2)), (2..4, Elements(2)), (4..20, Elements(4))],
        Format::Q5_0 => &[(0..2, Elements(2)), (2..6, FifthBits), (6..22, Elements(4))],
        Format::Q5_1 => &[(0..2, Elements(2)), (2..4, Elements(2)), (4..8, FifthBits), (8..24, Elements(4))],
        // Signed codes become unsigned ones, offset by 128.
        Format::Q8_0 => &[(0..2, Elements(2)), (2..34, Flipped(0x8080_8080))],
        Format::Q4_K => {
            &[(0..2, Elements(2)), (2..4, Elements(2)), (4..16, Elements(1)), (16..144, Elements(4))]
        }
        // The fifth bits of block b are bit b of every byte already.
        Format::Q5_K => &[
            (0..2, Elements(2)),
            (2..4, Elements(2)),
            (4..16, Elements(1)),
            (16..48, Elements(4)),
            (48..176, Elements(4)),
        ],
        // Halves of 128 columns one after the other, so that a kernel reads memory in one direction.
        Format::Q6_K => &[
            (208..210, Elements(2)),
            (192..208, Elements(1)),
            (128..160, Elements(4)),
            (0..64, Elements(4)),
            (160..192, Elements(4)),
            (64..128, Elements(4)),
        ],
    }
}

/// Packs all groups.
pub(super) fn groups(pool: &Pool, format: Format, rows: usize, row_bytes: usize, from: &[u8], to: &mut [u8]) {
    let group_bytes = row_bytes * LANES;
    pool.for_parts(to.chunks_mut(group_bytes), |index, group| {
        let rows = (rows - index * LANES).min(LANES);
        pack_group(format, rows, row_bytes, &from[index * group_bytes..], group);
    });
}

/// Packs one group. Lanes past `rows` stay zero.
fn pack_group(format: Format, rows: usize, row_bytes: usize, from: &[u8], to: &mut [u8]) {
    if let Format::F32 | Format::F16 | Format::BF16 = format {
        // A row of numbers is one field, however long.
        for lane in 0..rows {
            put(Section::Elements(format.block_bytes()), lane, &from[lane * row_bytes..][..row_bytes], to);
        }
        return;
    }
    let block_bytes = format.block_bytes();
    let sections = sections(format);
    for (index, block) in to.chunks_exact_mut(block_bytes * LANES).enumerate() {
        let mut rest = block;
        for (field, section) in sections {
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(field.len() * LANES);
            rest = tail;
            for lane in 0..rows {
                let row = &from[lane * row_bytes..][index * block_bytes..][..block_bytes];
                put(*section, lane, &row[field.clone()], part);
            }
        }
    }
}

/// Puts one row's field into its lane of a section.
fn put(section: Section, lane: usize, field: &[u8], to: &mut [u8]) {
    match section {
        Section::Elements(4) => interleave::<4>(lane, field, to, |word| word),
        Section::Elements(2) => interleave::<2>(lane, field, to, |half| half),
        Section::Elements(_) => interleave::<1>(lane, field, to, |octet| octet),
        Section::Flipped(mask) => {
            interleave::<4>(lane, field, to, |word| (u32::from_le_bytes(word) ^ mask).to_le_bytes());
        }
        Section::FifthBits => interleave::<4>(lane, field, to, |word| {
            let bits = u32::from_le_bytes(word);
            let octet = |b: u32| (0..8).fold(0u8, |byte, j| byte | ((bits >> (4 * j + b) & 1) as u8) << j);
            [octet(0), octet(1), octet(2), octet(3)]
        }),
    }
}

fn interleave<const N: usize>(lane: usize, field: &[u8], to: &mut [u8], change: impl Fn([u8; N]) -> [u8; N]) {
    let (elements, _) = field.as_chunks::<N>();
    let (places, _) = to.as_chunks_mut::<N>();
    for (element, place) in elements.iter().zip(places[lane..].iter_mut().step_by(LANES)) {
        *place = change(*element);
    }
}
