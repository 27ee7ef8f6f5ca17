//! Writes a file as a stream: the header first, then one tensor after the other.

use std::io::Write;

use bms_wire::{Code, Error, Result};

use super::value::{Value, ValueKind};
use super::{ALIGNMENT_DEFAULT, MAGIC, TensorKind};

/// One key with its value, which the writer owns.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are the kinds of values, which are documented")]
pub enum Pair {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<Vec<u8>>),
    Reals(Vec<f32>),
    Wholes(Vec<i32>),
    Bools(Vec<bool>),
    /// A value as another file has it: kind and bytes behind the kind.
    Raw(u32, Vec<u8>),
}

impl Pair {
    /// The value another file has, byte for byte.
    pub fn copied(value: Value<'_>) -> Self {
        let mut bytes = Vec::new();
        append(&mut bytes, value);
        Pair::Raw(value.kind() as u32, bytes)
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Pair::U32(v) => tagged(out, ValueKind::U32, &v.to_le_bytes()),
            Pair::F32(v) => tagged(out, ValueKind::F32, &v.to_le_bytes()),
            Pair::Bool(v) => tagged(out, ValueKind::Bool, &[u8::from(*v)]),
            Pair::Raw(kind, bytes) => {
                out.extend(kind.to_le_bytes());
                out.extend(bytes);
            }
            Pair::Text(text) => {
                out.extend((ValueKind::Text as u32).to_le_bytes());
                string(out, text.as_bytes());
            }
            Pair::Texts(texts) => {
                array(out, ValueKind::Text, texts.len());
                texts.iter().for_each(|text| string(out, text));
            }
            Pair::Reals(reals) => {
                array(out, ValueKind::F32, reals.len());
                out.extend(reals.iter().flat_map(|v| v.to_le_bytes()));
            }
            Pair::Bools(bools) => {
                array(out, ValueKind::Bool, bools.len());
                out.extend(bools.iter().map(|flag| u8::from(*flag)));
            }
            Pair::Wholes(wholes) => {
                array(out, ValueKind::I32, wholes.len());
                out.extend(wholes.iter().flat_map(|v| v.to_le_bytes()));
            }
        }
    }
}

fn tagged(out: &mut Vec<u8>, kind: ValueKind, bytes: &[u8]) {
    out.extend((kind as u32).to_le_bytes());
    out.extend(bytes);
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn array(out: &mut Vec<u8>, kind: ValueKind, length: usize) {
    out.extend((ValueKind::Array as u32).to_le_bytes());
    out.extend((kind as u32).to_le_bytes());
    out.extend((length as u64).to_le_bytes());
}

/// Appends a value without its kind.
fn append(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::U8(v) => out.extend(v.to_le_bytes()),
        Value::I8(v) => out.extend(v.to_le_bytes()),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push(v.into()),
        Value::Text(bytes) => string(out, bytes),
        Value::Array(values) => {
            out.extend((values.kind() as u32).to_le_bytes());
            out.extend((values.len() as u64).to_le_bytes());
            out.extend(values.bytes());
        }
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
    }
}

/// One tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// How its values are stored.
    pub kind: TensorKind,
    /// Its dimensions, the length of a row first.
    pub dims: Vec<usize>,
}

impl Entry {
    /// Bytes of the whole tensor.
    ///
    /// Errors: [`Code::InvalidInput`] when a row is not made of whole blocks or the size overflows.
    pub fn bytes(&self) -> Result<usize> {
        let row = self.dims.first().and_then(|cols| self.kind.row_bytes(*cols));
        let bytes = row.and_then(|row| self.dims[1..].iter().try_fold(row, |n, dim| n.checked_mul(*dim)));
        bytes.ok_or_else(|| {
            Error::new(
                Code::InvalidInput,
                format!(
                    "a tensor `{}` of {:?} values cannot be stored as {:?}",
                    self.name, self.dims, self.kind
                ),
            )
        })
    }
}

/// A file being written. Tensors come in the order of the table, each in pieces of any size.
#[derive(Debug)]
pub struct GgufWriter<W> {
    out: W,
    entries: Vec<(Entry, usize)>,
    index: usize,
    written: usize,
}

impl<W: Write> GgufWriter<W> {
    /// Writes the header and the table.
    pub fn new(mut out: W, pairs: &[(String, Pair)], entries: Vec<Entry>) -> Result<Self> {
        let mut head = MAGIC.to_vec();
        head.extend(3_u32.to_le_bytes());
        head.extend((entries.len() as u64).to_le_bytes());
        head.extend((pairs.len() as u64).to_le_bytes());
        for (key, pair) in pairs {
            string(&mut head, key.as_bytes());
            pair.write(&mut head);
        }
        let mut begin = 0_usize;
        let mut sized = Vec::with_capacity(entries.len());
        for entry in entries {
            let bytes = entry.bytes()?;
            string(&mut head, entry.name.as_bytes());
            head.extend((entry.dims.len() as u32).to_le_bytes());
            head.extend(entry.dims.iter().flat_map(|dim| (*dim as u64).to_le_bytes()));
            head.extend(entry.kind.number().to_le_bytes());
            head.extend((begin as u64).to_le_bytes());
            begin = begin.saturating_add(bytes.next_multiple_of(ALIGNMENT_DEFAULT));
            sized.push((entry, bytes));
        }
        head.resize(head.len().next_multiple_of(ALIGNMENT_DEFAULT), 0);
        out.write_all(&head).map_err(failed)?;
        Ok(GgufWriter { out, entries: sized, index: 0, written: 0 })
    }

    /// Writes the next bytes of the current tensor, or the first of the next one.
    ///
    /// Errors: [`Code::Internal`] when the bytes go beyond the tensor.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some((entry, size)) = self.entries.get(self.index) else {
            return Err(Error::new(Code::Internal, "more bytes than the tensors of the table have"));
        };
        if *size < self.written + bytes.len() {
            return Err(Error::new(
                Code::Internal,
                format!("too many bytes for the tensor `{}`", entry.name),
            ));
        }
        self.out.write_all(bytes).map_err(failed)?;
        self.written += bytes.len();
        if self.written == *size {
            let padding = size.next_multiple_of(ALIGNMENT_DEFAULT) - size;
            self.out.write_all(&[0; ALIGNMENT_DEFAULT][..padding]).map_err(failed)?;
            (self.index, self.written) = (self.index + 1, 0);
        }
        Ok(())
    }

    /// Flushes and gives the output back.
    ///
    /// Errors: [`Code::Internal`] when a tensor is missing.
    pub fn finish(mut self) -> Result<W> {
        if let Some((entry, _)) = self.entries.get(self.index) {
            return Err(Error::new(
                Code::Internal,
                format!("the tensor `{}` was not written whole", entry.name),
            ));
        }
        self.out.flush().map_err(failed)?;
        Ok(self.out)
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("write", std::path::Path::new("the GGUF file"), error)
}
