//! What weights are multiplied with: rows of numbers, quantised to eight bits in blocks of 32.

use crate::Pool;
use crate::matrix::LANES;
use crate::simd::{Simd, kernel};

/// Columns of one block, which has one scale.
pub(crate) const COLS: usize = 32;
/// Rows of a full tile.
pub(crate) const TILE_ROWS: usize = 16;
/// Numbers a block of a tile holds for each row beside its codes.
pub(crate) const FIELDS: usize = 7;
/// From this many numbers on quantisation is worth several threads.
const PARALLEL_FROM: usize = 16 << 10;

/// Scratch space for the activations of a product; reuse it, so that a forward pass allocates nothing.
///
/// Rows are grouped in tiles of up to 16, the rows a kernel keeps in registers. A tile holds, block of 32 columns after
/// block, the codes of its rows and four numbers for each row.
#[derive(Debug, Default)]
pub struct Activations {
    rows: usize,
    codes: Vec<Codes>,
    numbers: Vec<f32>,
    floats: Vec<f32>,
}

/// The codes of one row in one block.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
struct Codes([i8; COLS]);

/// Where a tile lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    /// Its first row of the activations.
    pub(crate) first: usize,
    /// Its rows.
    pub(crate) rows: usize,
}

/// One tile as a kernel reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileView<'a> {
    pub(crate) tile: Tile,
    /// For each block, for each row: 32 codes.
    pub(crate) codes: &'a [i8],
    /// For each block, one field after the other, for each row: the scale; `scale · sum of codes`; and, as integers in the
    /// bits of a float, where sums of products begin when weights are stored as `code − zero`: `−zero · sum of codes` for a
    /// zero of 8, 16 and 128, and for a zero of 32 that of the first and that of the second 16 columns.
    pub(crate) numbers: &'a [f32],
    /// For each column: for each row its number, unquantised.
    pub(crate) floats: &'a [f32],
}

impl Activations {
    /// An empty one.
    pub fn new() -> Activations {
        Activations::default()
    }

    /// Takes over rows of `cols` numbers in the forms the kernels of a product need.
    pub(crate) fn set(
        &mut self,
        pool: &Pool,
        x: &[f32],
        rows: usize,
        cols: usize,
        quantised: bool,
        float: bool,
    ) {
        self.rows = rows;
        let several = PARALLEL_FROM <= rows * cols;
        if quantised {
            let blocks = cols / COLS;
            grow(&mut self.codes, rows * blocks, Codes([0; COLS]));
            grow(&mut self.numbers, rows * blocks * FIELDS, 0.0);
            let codes = self.codes.chunks_mut((TILE_ROWS * blocks).max(1));
            let parts = codes.zip(self.numbers.chunks_mut((TILE_ROWS * blocks * FIELDS).max(1)));
            for_tiles(pool, rows, several, parts, |tile, (codes, numbers)| {
                quantise(pool.isa(), tile, x, cols, codes, numbers);
            });
        }
        if float {
            grow(&mut self.floats, rows * cols, 0.0);
            let parts = self.floats.chunks_mut((TILE_ROWS * cols).max(1));
            for_tiles(pool, rows, several, parts, |tile, out| {
                for (k, column) in out.chunks_exact_mut(tile.rows).enumerate().take(cols) {
                    for (row, value) in column.iter_mut().enumerate() {
                        *value = x[(tile.first + row) * cols + k];
                    }
                }
            });
        }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of tiles.
    pub(crate) fn tiles(&self) -> usize {
        self.rows().div_ceil(TILE_ROWS)
    }

    /// Tile `index`, of activations with so many columns.
    pub(crate) fn tile(&self, index: usize, cols: usize) -> TileView<'_> {
        let tile = Tile::of(index, self.rows);
        let blocks = cols / COLS;
        let place = |numbers: usize| tile.first * numbers..(tile.first + tile.rows) * numbers;
        let codes = self.codes.get(place(blocks)).unwrap_or(&[]);
        // SAFETY: `Codes` is 32 initialised bytes without padding.
        let codes = unsafe { std::slice::from_raw_parts(codes.as_ptr().cast(), codes.len() * COLS) };
        let numbers = self.numbers.get(place(blocks * FIELDS)).unwrap_or(&[]);
        let floats = self.floats.get(place(cols)).unwrap_or(&[]);
        TileView { tile, codes, numbers, floats }
    }
}

impl Tile {
    /// Tile `index` of so many rows.
    fn of(index: usize, rows: usize) -> Tile {
        let first = index * TILE_ROWS;
        Tile { first, rows: rows.saturating_sub(first).min(TILE_ROWS) }
    }
}

/// Has every tile filled, on all threads when there is much to do.
fn for_tiles<P: Send>(
    pool: &Pool,
    rows: usize,
    several: bool,
    parts: impl Iterator<Item = P>,
    fill: impl Fn(Tile, &mut P) + Sync,
) {
    let parts = parts.take(rows.div_ceil(TILE_ROWS));
    match several {
        true => pool.for_parts(parts, |index, part| fill(Tile::of(index, rows), part)),
        false => parts.enumerate().for_each(|(index, mut part)| fill(Tile::of(index, rows), &mut part)),
    }
}

fn grow<T: Copy>(vec: &mut Vec<T>, len: usize, value: T) {
    if vec.len() < len {
        vec.resize(len, value);
    }
}

kernel! {
    /// Quantises the rows of a tile: each block of 32 numbers becomes codes of −127 to 127 times a scale.
    fn quantise(tile: Tile, x: &[f32], cols: usize, codes: &mut [Codes], numbers: &mut [f32]) = quantise_rows;
}

#[inline(always)]
fn quantise_rows<S: Simd>(
    s: S,
    tile: Tile,
    x: &[f32],
    cols: usize,
    codes: &mut [Codes],
    numbers: &mut [f32],
) {
    for row in 0..tile.rows {
        for block in 0..cols / COLS {
            let x = x[(tile.first + row) * cols + block * COLS..].first_chunk();
            let (code, fields) = quantise_block(s, x.unwrap_or(&[0.0; COLS]));
            codes[block * tile.rows + row] = code;
            for (field, value) in fields.into_iter().enumerate() {
                numbers[(block * FIELDS + field) * tile.rows + row] = value;
            }
        }
    }
}

#[inline(always)]
fn quantise_block<S: Simd>(s: S, x: &[f32; COLS]) -> (Codes, [f32; FIELDS]) {
    let (halves, _) = x.as_chunks::<LANES>();
    let [first, second] = [s.load(&halves[0]), s.load(&halves[1])];
    let scale = s.largest_magnitude(first, second) / 127.0;
    // A block that is all but zero has codes zero; so has one that is not finite, whose scale then spoils the result as
    // it should.
    let inverse = s.splat(if 0.0 < scale && scale.is_finite() { 1.0 / scale } else { 0.0 });
    let ((first, first_sum), (second, second_sum)) =
        (s.to_i8(s.mul(first, inverse)), s.to_i8(s.mul(second, inverse)));
    let mut codes = [0i8; COLS];
    codes[..LANES].copy_from_slice(&first);
    codes[LANES..].copy_from_slice(&second);
    let sum = first_sum.wrapping_add(second_sum);
    let start = |zero: i32, sum: i32| f32::from_bits(sum.wrapping_mul(-zero) as u32);
    let fields = [
        scale,
        scale * sum as f32,
        start(8, sum),
        start(16, sum),
        start(128, sum),
        start(32, first_sum),
        start(32, second_sum),
    ];
    (Codes(codes), fields)
}
