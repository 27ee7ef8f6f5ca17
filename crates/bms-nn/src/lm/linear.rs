//! Weights as they are computed with, made from the tensors of a file one after the other.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use bms_kernels::{Format, Matrix, Pool, dequantise_row, quantise_row};
use bms_wire::{Code, Error, Result};

use super::guard::Weight;
use super::weights::{MatrixView, Weights};

/// `y = W x + b`; whoever multiplies adds the bias.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) matrix: Matrix,
    pub(super) bias: Option<Vec<f32>>,
}

impl Linear {
    pub(super) fn weights<'a>(&'a mut self, all: &mut Vec<Weight<'a>>) {
        let Linear { matrix, bias } = self;
        all.push(Weight::Matrix(matrix));
        all.extend(bias.as_mut().map(|bias| Weight::numbers(bias)));
    }
}

/// Where weights come from, and what becomes of them.
pub(super) struct Source<'a> {
    pub(super) weights: Weights<'a>,
    /// Told of bytes that are not read again.
    pub(super) release: &'a dyn Fn(&[u8]),
    /// The format matrices of floating point numbers are turned into.
    pub(super) quantise: Option<Format>,
    /// The one matrix that is wanted, `None` for all.
    pub(super) part: Option<&'a Part>,
}

/// A piece of one matrix, which is made without the others.
#[derive(Debug)]
pub(super) struct Part {
    /// Its number in the order in which a loader makes matrices.
    pub(super) matrix: usize,
    /// Bytes of the packed matrix.
    pub(super) bytes: Range<usize>,
    /// Those bytes, once they were made.
    pub(super) found: RefCell<Option<Vec<u8>>>,
}

impl<'a> Source<'a> {
    /// Makes the weights on the threads of `pool`.
    pub(super) fn loader(self, pool: &'a Pool) -> Loader<'a> {
        let Source { weights, release, quantise, part } = self;
        let (matrices, parameters, bytes) = (Cell::new(0), Cell::new(0), Cell::new(0));
        Loader { pool, weights, release, quantise, part, matrices, parameters, bytes }
    }
}

/// Makes weights out of tensors.
pub(super) struct Loader<'a> {
    pool: &'a Pool,
    pub(super) weights: Weights<'a>,
    release: &'a dyn Fn(&[u8]),
    quantise: Option<Format>,
    part: Option<&'a Part>,
    /// Matrices so far.
    matrices: Cell<usize>,
    /// Weights so far.
    pub(super) parameters: Cell<u64>,
    /// Their bytes in memory.
    pub(super) bytes: Cell<u64>,
}

/// Rows that are quantised as one piece of work.
const QUANTISE_ROWS: usize = 32;

impl Loader<'_> {
    /// Packs a matrix, and lets the file's pages behind it go.
    pub(super) fn pack(&self, name: &str, view: MatrixView<'_>) -> Result<Matrix> {
        self.packed(name, view, self.quantise)
    }

    fn packed(&self, name: &str, view: MatrixView<'_>, quantise: Option<Format>) -> Result<Matrix> {
        let number = self.matrices.replace(self.matrices.get() + 1);
        let Some(part) = self.part else { return self.whole(name, view, quantise) };
        if part.matrix == number {
            *part.found.borrow_mut() = Some(self.piece(name, &view, quantise, &part.bytes)?);
        }
        Ok(Matrix::placeholder(view.format, view.rows, view.cols))
    }

    /// Whether only a part of one matrix is wanted.
    pub(super) fn is_partial(&self) -> bool {
        self.part.is_some()
    }

    /// Bytes of a packed matrix, made from the rows they come from alone.
    fn piece(
        &self,
        name: &str,
        view: &MatrixView<'_>,
        quantise: Option<Format>,
        bytes: &Range<usize>,
    ) -> Result<Vec<u8>> {
        let no_such = || {
            let what = format!("`{name}` has no bytes {} to {} any more", bytes.start, bytes.end);
            Error::new(Code::Tampered, what)
        };
        let group = stored(view, quantise).row_bytes(view.cols).unwrap_or(0) * Matrix::GROUP_ROWS;
        if group == 0 || bytes.is_empty() || view.rows.div_ceil(Matrix::GROUP_ROWS) * group < bytes.end {
            return Err(no_such());
        }
        let (first, end) = (bytes.start / group, bytes.end.div_ceil(group));
        let rows = first * Matrix::GROUP_ROWS..view.rows.min(end * Matrix::GROUP_ROWS);
        let mut matrix = self.whole(name, view.part(rows.start, rows.len()), quantise)?;
        let packed = matrix.packed_mut().get(bytes.start - first * group..bytes.end - first * group);
        Ok(packed.ok_or_else(no_such)?.to_vec())
    }

    fn whole(&self, name: &str, view: MatrixView<'_>, quantise: Option<Format>) -> Result<Matrix> {
        let MatrixView { format, rows, cols, bytes } = view;
        let wanted = Some(stored(&view, quantise)).filter(|wanted| *wanted != format);
        let matrix = match wanted {
            Some(wanted) => {
                let bytes = self.quantised(&view, wanted);
                Matrix::pack(self.pool, wanted, rows, cols, &bytes)
            }
            None => Matrix::pack(self.pool, format, rows, cols, bytes),
        };
        let matrix = matrix.map_err(|error| {
            let code = match error {
                bms_kernels::PackError::Memory => Code::Internal,
                _ => Code::InvalidBundle,
            };
            Error::new(code, format!("failed to load the tensor `{name}`: {error}")).because(error)
        })?;
        (self.release)(bytes);
        self.count((rows * cols) as u64, matrix.bytes() as u64);
        Ok(matrix)
    }

    fn count(&self, parameters: u64, bytes: u64) {
        self.parameters.set(self.parameters.get() + parameters);
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// The rows of a matrix in another format, on all threads.
    fn quantised(&self, view: &MatrixView<'_>, wanted: Format) -> Vec<u8> {
        // `fitting` has chosen a format whose blocks divide a row.
        let row_bytes = wanted.row_bytes(view.cols).unwrap_or(0);
        let mut bytes = vec![0; row_bytes * view.rows];
        self.pool.for_parts(bytes.chunks_mut((row_bytes * QUANTISE_ROWS).max(1)), |index, out| {
            let mut values = vec![0.0; view.cols];
            for (at, row) in out.chunks_exact_mut(row_bytes).enumerate() {
                let source = view.part(index * QUANTISE_ROWS + at, 1);
                dequantise_row(view.format, source.bytes, &mut values);
                quantise_row(wanted, &values, row);
            }
        });
        bytes
    }

    /// The tensor `name` as a matrix.
    pub(super) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        self.pack(name, self.weights.matrix(name, rows, cols)?)
    }

    /// The same, never quantised: for what decides.
    pub(super) fn plain_matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        self.packed(name, self.weights.matrix(name, rows, cols)?, None)
    }

    /// The same for a matrix that is read while the model is loaded and not kept.
    pub(super) fn passing_matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        self.whole(name, self.weights.matrix(name, rows, cols)?, self.quantise)
    }

    /// The tensor `name` as a vector.
    pub(super) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let (values, bytes) = self.weights.vector(name, len)?;
        (self.release)(bytes);
        self.count(len as u64, 4 * len as u64);
        Ok(values)
    }

    /// The same, when it is there.
    pub(super) fn vector_if_there(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>> {
        self.weights.has(name).then(|| self.vector(name, len)).transpose()
    }

    /// `stem.weight` and, when it is there, `stem.bias`.
    pub(super) fn linear(&self, stem: &str, rows: usize, cols: usize) -> Result<Linear> {
        let matrix = self.matrix(&format!("{stem}.weight"), rows, cols)?;
        Ok(Linear { matrix, bias: self.vector_if_there(&format!("{stem}.bias"), rows)? })
    }

    /// Several that lie below each other in one tensor.
    pub(super) fn fused<const N: usize>(
        &self,
        stem: &str,
        rows: [usize; N],
        cols: usize,
    ) -> Result<[Linear; N]> {
        let name = format!("{stem}.weight");
        let view = self.weights.matrix(&name, rows.iter().sum(), cols)?;
        let bias = self.vector_if_there(&format!("{stem}.bias"), rows.iter().sum())?;
        let mut first = 0;
        let mut parts = Vec::with_capacity(N);
        for rows in rows {
            let matrix = self.pack(&name, view.part(first, rows))?;
            let bias = bias.as_ref().map(|bias| bias[first..first + rows].to_vec());
            parts.push(Linear { matrix, bias });
            first += rows;
        }
        parts.try_into().map_err(|_| Error::new(Code::Internal, format!("`{name}` was not split")))
    }
}

/// The format a matrix is kept in: its own, or the one that matrices of floating point numbers are turned into.
fn stored(view: &MatrixView<'_>, quantise: Option<Format>) -> Format {
    let quantise = quantise.filter(|_| !view.format.is_quantised());
    quantise.map_or(view.format, |wanted| fitting(wanted, view.cols))
}

/// The format itself, or the nearest whose blocks divide rows of `cols` values.
fn fitting(wanted: Format, cols: usize) -> Format {
    [wanted, Format::Q8_0].into_iter().find(|format| format.row_bytes(cols).is_some()).unwrap_or(Format::F16)
}
