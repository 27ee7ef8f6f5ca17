//! Weights, packed for the kernels.

mod block;
mod bytes;
mod pack;

pub(crate) use block::Block;
use bytes::AlignedBytes;

use crate::{Format, Pool};

/// Rows that lie interleaved: one for each lane of the widest vector of 32-bit numbers.
pub(crate) const LANES: usize = 16;

/// A matrix of weights, `rows × cols`, that multiplies activations from the left: `y = W x`.
///
/// Its rows lie in groups of 16. A group holds the same blocks as the file, the 32-bit words of its rows interleaved:
/// where a row of the file has four codes in one word, the group has sixteen such words side by side, one vector. So a
/// product reads memory from front to back, and each of its lanes computes one row. The size is the file's, rounded up
/// to whole groups.
#[derive(Debug)]
pub struct Matrix {
    format: Format,
    rows: usize,
    cols: usize,
    group_bytes: usize,
    packed: AlignedBytes,
}

/// Why bytes are not a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackError {
    /// A row is not a whole number of blocks, or sizes overflow.
    Shape,
    /// There are other than `rows × row_bytes` bytes.
    Length {
        /// Bytes the shape asks for.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// The system has not enough memory.
    Memory,
}

impl std::fmt::Display for PackError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PackError::Shape => f.write_str("a row is not a whole number of blocks"),
            PackError::Length { expected, found } => write!(f, "{found} bytes where {expected} are needed"),
            PackError::Memory => f.write_str("there is not enough memory"),
        }
    }
}

impl std::error::Error for PackError {}

impl Matrix {
    /// Packs `rows` rows of `cols` values as a file holds them, on all threads of the pool.
    ///
    /// # Errors
    /// [`PackError`] when the bytes do not fit the shape or there is not enough memory.
    pub fn pack(
        pool: &Pool,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Matrix, PackError> {
        let row_bytes = format.row_bytes(cols).ok_or(PackError::Shape)?;
        let expected = rows.checked_mul(row_bytes).ok_or(PackError::Shape)?;
        if bytes.len() != expected {
            return Err(PackError::Length { expected, found: bytes.len() });
        }
        let group_bytes = row_bytes.checked_mul(LANES).ok_or(PackError::Shape)?;
        let total = rows.div_ceil(LANES).checked_mul(group_bytes).ok_or(PackError::Shape)?;
        let mut packed = AlignedBytes::zeroed(total).ok_or(PackError::Memory)?;
        if 0 < row_bytes {
            pack::groups(pool, format, rows, row_bytes, bytes, packed.as_mut());
        }
        Ok(Matrix { format, rows, cols, group_bytes, packed })
    }

    /// A matrix of 32-bit floating point numbers, row-major.
    ///
    /// # Errors
    /// As [`Matrix::pack`].
    pub fn from_f32(pool: &Pool, rows: usize, cols: usize, values: &[f32]) -> Result<Matrix, PackError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Matrix::pack(pool, Format::F32, rows, cols, &bytes)
    }

    /// A matrix of this shape without memory for its values: it stands where only another one's values are wanted.
    /// Products with it and looks at its rows panic.
    pub fn placeholder(format: Format, rows: usize, cols: usize) -> Matrix {
        Matrix { format, rows, cols, group_bytes: 0, packed: AlignedBytes::empty() }
    }

    /// Rows: the length of a product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: the length of an activation.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How the values are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes it occupies: what a product with one row of activations reads.
    pub fn bytes(&self) -> usize {
        self.packed.len()
    }

    /// Those bytes as they lie in memory, groups of [`Matrix::GROUP_ROWS`] rows one after the other: for whoever checks
    /// them or puts back what they were. Any bytes are a matrix; other ones are another matrix.
    pub fn packed_mut(&mut self) -> &mut [u8] {
        self.packed.as_mut()
    }

    /// Rows that lie interleaved. Packed rows that begin at a multiple of this are packed like all others.
    pub const GROUP_ROWS: usize = LANES;

    /// Writes the values of row `index`, as for an embedding.
    ///
    /// # Panics
    /// When there is no such row, or `out` has another length than a row.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        assert!(index < self.rows, "row {index} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "a row has {} values", self.cols);
        block::row(self.format, self.group(index / LANES), index % LANES, out);
    }

    /// Number of groups.
    pub(crate) fn groups(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// The bytes of group `index`.
    pub(crate) fn group(&self, index: usize) -> &[u8] {
        &self.packed.as_ref()[index * self.group_bytes..][..self.group_bytes]
    }
}

#[cfg(test)]
mod tests;
