//! How a tensor's values are stored: every type of the format, with its block.

use bms_kernels::Format;

/// A storage type, with the number the format gives it.
///
/// All types are known by size, so that a file's layout can be checked whatever it holds; which of
/// them can be computed with is another question.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorKind(&'static Row);

#[derive(PartialEq, Eq, Hash)]
struct Row {
    number: u32,
    name: &'static str,
    block_len: usize,
    block_bytes: usize,
}

const fn row(number: u32, name: &'static str, block_len: usize, block_bytes: usize) -> Row {
    Row { number, name, block_len, block_bytes }
}

/// From `ggml.h` and `ggml-common.h`, with the names that `llama-quantize` prints.
static ROWS: [Row; 35] = [
    row(0, "F32", 1, 4),
    row(1, "F16", 1, 2),
    row(2, "Q4_0", 32, 18),
    row(3, "Q4_1", 32, 20),
    row(6, "Q5_0", 32, 22),
    row(7, "Q5_1", 32, 24),
    row(8, "Q8_0", 32, 34),
    row(9, "Q8_1", 32, 36),
    row(10, "Q2_K", 256, 84),
    row(11, "Q3_K", 256, 110),
    row(12, "Q4_K", 256, 144),
    row(13, "Q5_K", 256, 176),
    row(14, "Q6_K", 256, 210),
    row(15, "Q8_K", 256, 292),
    row(16, "IQ2_XXS", 256, 66),
    row(17, "IQ2_XS", 256, 74),
    row(18, "IQ3_XXS", 256, 98),
    row(19, "IQ1_S", 256, 50),
    row(20, "IQ4_NL", 32, 18),
    row(21, "IQ3_S", 256, 110),
    row(22, "IQ2_S", 256, 82),
    row(23, "IQ4_XS", 256, 136),
    row(24, "I8", 1, 1),
    row(25, "I16", 1, 2),
    row(26, "I32", 1, 4),
    row(27, "I64", 1, 8),
    row(28, "F64", 1, 8),
    row(29, "IQ1_M", 256, 56),
    row(30, "BF16", 1, 2),
    row(34, "TQ1_0", 256, 54),
    row(35, "TQ2_0", 256, 66),
    row(39, "MXFP4", 32, 17),
    row(40, "NVFP4", 64, 36),
    row(41, "Q1_0", 128, 18),
    row(42, "Q2_0", 64, 18),
];

impl TensorKind {
    /// The type with this number in a file.
    pub fn from_number(number: u32) -> Option<Self> {
        ROWS.iter().find(|row| row.number == number).map(TensorKind)
    }

    /// The kernels' name for it; `None` for a type that cannot be computed with.
    pub fn format(self) -> Option<Format> {
        Format::from_ggml(self.0.number)
    }

    /// Its number in a file.
    pub fn number(self) -> u32 {
        self.0.number
    }

    /// Its name, `Q4_K`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Values in one block.
    pub fn block_len(self) -> usize {
        self.0.block_len
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        self.0.block_bytes
    }

    /// Bytes of a row, `None` when the row is not made of whole blocks or too long for memory.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        (cols.is_multiple_of(self.0.block_len))
            .then(|| (cols / self.0.block_len).checked_mul(self.0.block_bytes))
            .flatten()
    }
}

impl std::fmt::Debug for TensorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name)
    }
}

impl From<Format> for TensorKind {
    fn from(format: Format) -> Self {
        let row = ROWS.iter().find(|row| row.number == format.ggml());
        // Every format of the kernels is a type of the files: a test goes through all of them.
        TensorKind(row.unwrap_or(&ROWS[0]))
    }
}
