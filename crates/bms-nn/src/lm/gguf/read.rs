//! Reads the header and the tensor table, and checks where the tensors lie.

use std::collections::HashMap;

use bms_wire::{Code, Error, Result, limits};

use super::cursor::Cursor;
use super::{ALIGNMENT_DEFAULT, ALIGNMENT_MAX, MAGIC, Metadata, RANK_MAX, TensorKind, broken};

/// Fewest bytes of one table entry: the name's length, axes, type, offset.
const ENTRY_BYTES_MIN: usize = 8 + 4 + 4 + 8;
/// Bytes of a tensor's name; llama.cpp allows 64.
const NAME_BYTES_MAX: usize = 256;

/// A file whose header, table and layout have been checked. Borrows the file's bytes.
#[derive(Clone, Debug)]
pub struct GgufFile<'a> {
    /// The format's version, 2 or 3.
    pub version: u32,
    /// Bytes each tensor's place is a multiple of.
    pub alignment: usize,
    /// The key-value pairs.
    pub metadata: Metadata<'a>,
    tensors: Vec<TensorInfo<'a>>,
    places: HashMap<&'a str, usize>,
}

/// One tensor: what it is called and where it lies.
#[derive(Clone, Debug)]
pub struct TensorInfo<'a> {
    /// Its name, `blk.0.attn_q.weight`.
    pub name: &'a str,
    /// How its values are stored.
    pub kind: TensorKind,
    /// Its bytes in the file.
    pub bytes: &'a [u8],
    /// Where its bytes begin in the file.
    pub offset: usize,
    dims: [usize; RANK_MAX],
    rank: usize,
}

impl TensorInfo<'_> {
    /// Its dimensions in the format's order: the first is the length of a row in memory.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// Values of one row: its first dimension.
    pub fn cols(&self) -> usize {
        self.dims[0]
    }

    /// Number of rows: the product of its other dimensions.
    pub fn rows(&self) -> usize {
        self.dims[1..].iter().product()
    }
}

/// A table entry before its place is known to be inside the file.
struct Listed<'a> {
    name: &'a str,
    kind: TensorKind,
    dims: [usize; RANK_MAX],
    rank: usize,
    begin: u64,
    bytes: usize,
}

impl<'a> GgufFile<'a> {
    /// Reads a whole file.
    ///
    /// Errors: [`Code::InvalidBundle`] for a file that breaks the format, [`Code::UnsupportedModel`] for
    /// version 1, the other byte order, and a file that is one part of several.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(bytes);
        if cursor.take(MAGIC.len())? != MAGIC {
            return Err(broken("it does not begin with `GGUF`"));
        }
        let version = version(cursor.u32()?)?;
        let tensors = cursor.count("tensors", ENTRY_BYTES_MIN, limits::MODEL_TENSORS_MAX)?;
        let pairs = Metadata::count(&mut cursor)?;
        let metadata = Metadata::read(&mut cursor, pairs)?;
        whole(&metadata)?;
        let alignment = alignment(&metadata)?;
        let mut listed = Vec::new();
        for _ in 0..tensors {
            listed.push(entry(&mut cursor)?);
        }
        let start = cursor.at().next_multiple_of(alignment);
        let tensors = place(listed, bytes, start, alignment)?;
        let mut places = HashMap::with_capacity(tensors.len());
        for (index, tensor) in tensors.iter().enumerate() {
            if places.insert(tensor.name, index).is_some() {
                return Err(broken(format_args!("the tensor `{}` is given twice", tensor.name)));
            }
        }
        Ok(GgufFile { version, alignment, metadata, tensors, places })
    }

    /// All tensors, in the table's order.
    pub fn tensors(&self) -> &[TensorInfo<'a>] {
        &self.tensors
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo<'a>> {
        self.places.get(name).map(|place| &self.tensors[*place])
    }
}

fn version(number: u32) -> Result<u32> {
    match number {
        2 | 3 => Ok(number),
        1 => Err(Error::new(
            Code::UnsupportedModel,
            "the GGUF file has version 1, which was used for some days in 2023",
        )
        .hint("Convert the model again with a current tool.")),
        _ if (1..=3).contains(&number.swap_bytes()) => {
            Err(Error::new(Code::UnsupportedModel, "the GGUF file is in big-endian byte order")
                .hint("Get the little-endian file, or convert it with `gguf-convert-endian`."))
        }
        _ => Err(broken(format_args!("its version is {number}, known are 2 and 3"))),
    }
}

/// Refuses a part of a model split over several files: tensors would be missing.
fn whole(metadata: &Metadata<'_>) -> Result<()> {
    match metadata.number("split.count")? {
        Some(parts) if 1 < parts => Err(Error::new(
            Code::UnsupportedModel,
            format!("the GGUF file is one of {parts} parts of a model"),
        )
        .hint("Join the parts first: `llama-gguf-split --merge FIRST-PART OUT`.")),
        _ => Ok(()),
    }
}

fn alignment(metadata: &Metadata<'_>) -> Result<usize> {
    match metadata.number("general.alignment")? {
        None => Ok(ALIGNMENT_DEFAULT),
        Some(bytes) if bytes.is_power_of_two() && (8..=ALIGNMENT_MAX).contains(&bytes) => Ok(bytes),
        Some(bytes) => Err(broken(format_args!("its alignment is {bytes}"))),
    }
}

fn entry<'a>(cursor: &mut Cursor<'a>) -> Result<Listed<'a>> {
    let name = std::str::from_utf8(cursor.string("a tensor's name", NAME_BYTES_MAX)?)
        .map_err(|_| broken("a tensor's name is not UTF-8"))?;
    let wrong = |what: std::fmt::Arguments<'_>| broken(format_args!("the tensor `{name}` {what}"));
    let rank = cursor.u32()? as usize;
    if !(1..=RANK_MAX).contains(&rank) {
        return Err(wrong(format_args!("has {rank} dimensions, 1 to {RANK_MAX} are possible")));
    }
    let mut dims = [1; RANK_MAX];
    let mut values = 1_usize;
    for dim in &mut dims[..rank] {
        let size = cursor.u64()?;
        // Other readers hold dimensions in signed integers; a tensor without values is no weight.
        let size = usize::try_from(size).ok().filter(|size| (1..=isize::MAX as usize).contains(size));
        let product = size.and_then(|size| values.checked_mul(size));
        (*dim, values) = size.zip(product).ok_or_else(|| wrong(format_args!("has an impossible size")))?;
    }
    let number = cursor.u32()?;
    let kind = TensorKind::from_number(number)
        .ok_or_else(|| wrong(format_args!("has the unknown type {number}")))?;
    let bytes = kind.row_bytes(dims[0]).ok_or_else(|| {
        wrong(format_args!(
            "has rows of {} values, {} wants whole blocks of {}",
            dims[0],
            kind.name(),
            kind.block_len()
        ))
    })?;
    let bytes =
        bytes.checked_mul(values / dims[0]).ok_or_else(|| wrong(format_args!("has an impossible size")))?;
    Ok(Listed { name, kind, dims, rank, begin: cursor.u64()?, bytes })
}

/// Finds each tensor's bytes; refuses tensors outside the file, out of line, or sharing bytes.
fn place<'a>(
    listed: Vec<Listed<'a>>,
    bytes: &'a [u8],
    start: usize,
    alignment: usize,
) -> Result<Vec<TensorInfo<'a>>> {
    let mut tensors = Vec::with_capacity(listed.len());
    for Listed { name, kind, dims, rank, begin, bytes: length } in listed {
        if begin % alignment as u64 != 0 {
            return Err(broken(format_args!("the tensor `{name}` does not lie on {alignment} bytes")));
        }
        let offset = usize::try_from(begin).ok().and_then(|begin| start.checked_add(begin));
        let end = offset.and_then(|offset| offset.checked_add(length));
        let (Some(offset), Some(end)) = (offset, end.filter(|end| *end <= bytes.len())) else {
            return Err(broken(format_args!(
                "the tensor `{name}` reaches beyond the end of the file ({} bytes)",
                bytes.len()
            ))
            .hint("The file may have been cut short: get it again and compare its size or digest."));
        };
        tensors.push(TensorInfo { name, kind, dims, rank, offset, bytes: &bytes[offset..end] });
    }
    let mut order: Vec<&TensorInfo<'_>> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.offset);
    for pair in order.windows(2) {
        if pair[1].offset < pair[0].offset + pair[0].bytes.len() {
            return Err(broken(format_args!(
                "the tensors `{}` and `{}` share bytes",
                pair[0].name, pair[1].name
            )));
        }
    }
    Ok(tensors)
}
