//! The tensors of a model under GGUF's names, whichever file they come from.
//!
//! A tensor is handed out once, with its shape checked. [`Weights::finish`] refuses what nobody asked for: a model with
//! a tensor that takes no part would be another model.

use std::cell::Cell;
use std::collections::HashMap;

use bms_kernels::{Format, dequantise_row};
use bms_wire::{Code, Error, Result};

use super::gguf::GgufFile;
use super::names::{self, Change, Mapped};
use super::{Arch, hyper};

/// A matrix in a file: rows of a format, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct MatrixView<'a> {
    pub(super) format: Format,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) bytes: &'a [u8],
}

impl<'a> MatrixView<'a> {
    /// Some of its rows. They exist and rows are whole blocks, as [`Weights`] has checked.
    pub(super) fn part(&self, first: usize, rows: usize) -> MatrixView<'a> {
        let row = self.bytes.len() / self.rows.max(1);
        MatrixView { rows, bytes: &self.bytes[first * row..(first + rows) * row], ..*self }
    }

    /// Whether no value is infinite or none at all. Reads every one.
    pub(super) fn is_finite(&self) -> bool {
        let mut values = vec![0.0; self.cols];
        let row = self.bytes.len() / self.rows.max(1);
        self.bytes.chunks(row.max(1)).all(|bytes| {
            dequantise_row(self.format, bytes, &mut values);
            values.iter().all(|value| value.is_finite())
        })
    }
}

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stored<'a> {
    /// In a format that is computed with.
    As(Format),
    /// In another one of this name.
    Other(&'a str),
}

/// One tensor of a folder.
#[derive(Clone, Debug)]
pub(super) struct FolderTensor<'a> {
    pub(super) name: String,
    pub(super) stored: Stored<'a>,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: &'a [u8],
}

struct Entry<'a> {
    /// The name in the file.
    name: String,
    stored: Stored<'a>,
    /// Outermost first.
    shape: Vec<usize>,
    bytes: &'a [u8],
    plus_one: bool,
    taken: Cell<bool>,
}

/// All tensors of a model.
pub(super) struct Weights<'a> {
    tensors: HashMap<String, Entry<'a>>,
}

/// Tensors of files that no computation needs: what follows from other values.
const UNNEEDED: [&str; 3] = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];

fn invalid(message: String) -> Error {
    Error::new(Code::InvalidBundle, message)
}

impl<'a> Weights<'a> {
    /// The tensors of a GGUF file.
    pub(super) fn from_gguf(file: &GgufFile<'a>) -> Weights<'a> {
        let entry = |tensor: &super::gguf::TensorInfo<'a>| {
            let stored = match Format::from_ggml(tensor.kind.number()) {
                Some(format) => Stored::As(format),
                None => Stored::Other(tensor.kind.name()),
            };
            // What the hyper-parameters have read counts as taken.
            let taken = Cell::new(UNNEEDED.contains(&tensor.name));
            let shape = tensor.dims().iter().rev().copied().collect();
            let entry = Entry {
                name: tensor.name.to_owned(),
                stored,
                shape,
                bytes: tensor.bytes,
                plus_one: false,
                taken,
            };
            (tensor.name.to_owned(), entry)
        };
        Weights { tensors: file.tensors().iter().map(entry).collect() }
    }

    /// The tensors of a folder.
    pub(super) fn from_folder(
        arch: Arch,
        tensors: impl IntoIterator<Item = FolderTensor<'a>>,
    ) -> Result<Weights<'a>> {
        let mut all = HashMap::new();
        for tensor in tensors {
            let FolderTensor { name, stored, shape, bytes } = tensor;
            let place = match names::place(arch, &name) {
                Mapped::Place(place) => place,
                Mapped::Unneeded => continue,
                Mapped::Unknown => {
                    return Err(hyper::unsupported(format_args!("nobody knows its tensor `{name}`")));
                }
            };
            let plus_one = place.change == Change::PlusOne;
            if all.contains_key(&place.name) {
                return Err(invalid(format!("the tensor `{name}` is given twice, as `{}`", place.name)));
            }
            let entry = Entry { name, stored, shape, bytes, plus_one, taken: Cell::new(false) };
            all.insert(place.name, entry);
        }
        Ok(Weights { tensors: all })
    }

    /// Whether there is such a tensor.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor, outermost dimension first.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| &*entry.shape)
    }

    /// The tensor of this name and shape; dimensions of one in front are not counted.
    fn take(&self, name: &str, shape: &[usize]) -> Result<(&Entry<'a>, Format)> {
        let entry =
            self.tensors.get(name).ok_or_else(|| invalid(format!("the tensor `{name}` is missing")))?;
        let ones = entry.shape.len().saturating_sub(shape.len());
        if entry.shape[ones..] != *shape || entry.shape[..ones].iter().any(|size| *size != 1) {
            return Err(invalid(format!(
                "the tensor `{}` has the shape {:?}, it must have {shape:?}",
                entry.name, entry.shape
            )));
        }
        let format = match entry.stored {
            Stored::As(format) => format,
            Stored::Other(kind) => {
                return Err(hyper::unsupported(format_args!("its tensor `{}` holds {kind}", entry.name))
                    .hint(format!("Formats that are computed with: {}.", formats())));
            }
        };
        let row = format.row_bytes(shape.last().copied().unwrap_or(1));
        let rows = shape[..shape.len().saturating_sub(1)].iter().product::<usize>();
        if row.and_then(|row| row.checked_mul(rows)) != Some(entry.bytes.len()) {
            return Err(invalid(format!("the tensor `{}` has {} bytes", entry.name, entry.bytes.len())));
        }
        entry.taken.set(true);
        Ok((entry, format))
    }

    /// A matrix.
    pub(super) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<MatrixView<'a>> {
        let (entry, format) = self.take(name, &[rows, cols])?;
        Ok(MatrixView { format, rows, cols, bytes: entry.bytes })
    }

    /// A stack of matrices, one below the other.
    pub(super) fn stack(&self, name: &str, count: usize, rows: usize, cols: usize) -> Result<MatrixView<'a>> {
        let (entry, format) = self.take(name, &[count, rows, cols])?;
        Ok(MatrixView { format, rows: count * rows, cols, bytes: entry.bytes })
    }

    /// A vector, and the bytes it was read from.
    pub(super) fn vector(&self, name: &str, len: usize) -> Result<(Vec<f32>, &'a [u8])> {
        let (entry, format) = self.take(name, &[len])?;
        let mut values = vec![0.0; len];
        dequantise_row(format, entry.bytes, &mut values);
        if entry.plus_one {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        Ok((values, entry.bytes))
    }

    /// Counts a tensor as used that is known to repeat another.
    pub(super) fn pass_over(&self, name: &str) {
        if let Some(entry) = self.tensors.get(name) {
            entry.taken.set(true);
        }
    }

    /// Checks that every tensor was used.
    ///
    /// # Errors
    /// [`Code::UnsupportedModel`] that names those that were not.
    pub(super) fn finish(&self) -> Result<()> {
        let mut left: Vec<&str> =
            self.tensors.values().filter(|entry| !entry.taken.get()).map(|entry| &*entry.name).collect();
        left.sort_unstable();
        match left.as_slice() {
            [] => Ok(()),
            [first, rest @ ..] => Err(hyper::unsupported(format_args!(
                "nothing in its architecture uses the tensor `{first}`{}",
                if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) }
            ))),
        }
    }
}

fn formats() -> String {
    Format::ALL.iter().map(|format| format.as_str()).collect::<Vec<_>>().join(", ")
}
