//! What weights are multiplied with: rows of numbers, quantised to eight bits in blocks of 32.

use crate::matrix::LANES;
use crate::{Isa, Pool};

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
    tiles: Vec<Tile>,
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
    /// Rows of all tiles before it.
    start: usize,
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
        self.tiles.clear();
        let mut start = 0;
        for first in (0..rows).step_by(TILE_ROWS) {
            let rows = (rows - first).min(TILE_ROWS);
            self.tiles.push(Tile { first, rows, start });
            start += rows;
        }
        if quantised {
            let blocks = cols / COLS;
            grow(&mut self.codes, start * blocks, Codes([0; COLS]));
            grow(&mut self.numbers, start * blocks * FIELDS, 0.0);
            let Activations { tiles, codes, numbers, .. } = self;
            let work = Split { tiles, rest: (&mut codes[..], &mut numbers[..]), blocks };
            work.each(pool, rows * cols, |tile, codes, numbers| {
                quantise(pool.isa(), tile, &x[tile.first * cols..], cols, codes, numbers);
            });
        }
        if float {
            grow(&mut self.floats, start * cols, 0.0);
            for tile in &self.tiles {
                let out = &mut self.floats[tile.start * cols..][..tile.rows * cols];
                for (k, column) in out.chunks_exact_mut(tile.rows).enumerate() {
                    for (row, value) in column.iter_mut().enumerate() {
                        *value = x[(tile.first + row) * cols + k];
                    }
                }
            }
        }
    }

    /// Number of tiles.
    pub(crate) fn tiles(&self) -> usize {
        self.tiles.len()
    }

    /// Tile `index`, of activations with so many columns.
    pub(crate) fn tile(&self, index: usize, cols: usize) -> TileView<'_> {
        let tile = self.tiles[index];
        let blocks = cols / COLS;
        let codes = self.codes.get(tile.start * blocks..(tile.start + tile.rows) * blocks).unwrap_or(&[]);
        // SAFETY: `Codes` is 32 initialised bytes without padding.
        let codes = unsafe { std::slice::from_raw_parts(codes.as_ptr().cast(), codes.len() * COLS) };
        let numbers = blocks * FIELDS;
        let numbers =
            self.numbers.get(tile.start * numbers..(tile.start + tile.rows) * numbers).unwrap_or(&[]);
        let floats = self.floats.get(tile.start * cols..(tile.start + tile.rows) * cols).unwrap_or(&[]);
        TileView { tile, codes, numbers, floats }
    }
}

fn grow<T: Copy>(vec: &mut Vec<T>, len: usize, value: T) {
    if vec.len() < len {
        vec.resize(len, value);
    }
}

/// Tiles and the space that is theirs.
struct Split<'a> {
    tiles: &'a [Tile],
    rest: (&'a mut [Codes], &'a mut [f32]),
    blocks: usize,
}

impl Split<'_> {
    /// Has every tile filled, on all threads when there is much to do.
    fn each(self, pool: &Pool, numbers: usize, fill: impl Fn(&Tile, &mut [Codes], &mut [f32]) + Sync) {
        let (mut codes, mut fields) = self.rest;
        let mut parts = Vec::with_capacity(self.tiles.len());
        for tile in self.tiles {
            let (own, rest) = codes.split_at_mut(tile.rows * self.blocks);
            codes = rest;
            let (own_fields, rest) = fields.split_at_mut(tile.rows * self.blocks * FIELDS);
            fields = rest;
            parts.push(std::sync::Mutex::new((own, own_fields)));
        }
        let one = |index: usize| {
            let mut part = parts[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let (codes, fields) = &mut *part;
            fill(&self.tiles[index], codes, fields);
        };
        match numbers < PARALLEL_FROM {
            true => (0..parts.len()).for_each(one),
            false => pool.for_each(parts.len(), &one),
        }
    }
}

/// Quantises the rows of a tile: each block of 32 numbers becomes codes of −127 to 127 times a scale.
fn quantise(isa: Isa, tile: &Tile, x: &[f32], cols: usize, codes: &mut [Codes], numbers: &mut [f32]) {
    match isa {
        Isa::Scalar => quantise_rows(tile, x, cols, codes, numbers),
        // SAFETY: the pool's instruction set is one the machine has.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { quantise_avx2(tile, x, cols, codes, numbers) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { quantise_avx512(tile, x, cols, codes, numbers) },
        // NEON is in the baseline of its architecture.
        _ => quantise_rows(tile, x, cols, codes, numbers),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn quantise_avx2(tile: &Tile, x: &[f32], cols: usize, codes: &mut [Codes], numbers: &mut [f32]) {
    quantise_rows(tile, x, cols, codes, numbers);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn quantise_avx512(tile: &Tile, x: &[f32], cols: usize, codes: &mut [Codes], numbers: &mut [f32]) {
    quantise_rows(tile, x, cols, codes, numbers);
}

#[inline(always)]
fn quantise_rows(tile: &Tile, x: &[f32], cols: usize, codes: &mut [Codes], numbers: &mut [f32]) {
    let blocks = cols / COLS;
    for row in 0..tile.rows {
        for block in 0..blocks {
            let x = x[row * cols + block * COLS..].first_chunk();
            let (code, fields) = quantise_block(x.unwrap_or(&[0.0; COLS]));
            codes[block * tile.rows + row] = code;
            for (field, value) in fields.into_iter().enumerate() {
                numbers[(block * FIELDS + field) * tile.rows + row] = value;
            }
        }
    }
}

#[inline(always)]
fn quantise_block(x: &[f32; COLS]) -> (Codes, [f32; FIELDS]) {
    let mut most = [0.0f32; LANES];
    for i in 0..LANES {
        most[i] = x[i].abs().max(x[i + LANES].abs());
    }
    let mut width = LANES / 2;
    while 0 < width {
        for i in 0..width {
            most[i] = most[i].max(most[i + width]);
        }
        width /= 2;
    }
    let scale = most[0] / 127.0;
    // A block that is all but zero has codes zero; so has one that is not finite, whose scale then spoils the result as
    // it should.
    let inverse = if 0.0 < scale && scale.is_finite() { 1.0 / scale } else { 0.0 };
    let mut codes = [0i8; COLS];
    let mut sums = [0i32; 2];
    for (half, sum) in sums.iter_mut().enumerate() {
        for i in 0..LANES {
            // Between −127 and 127 by construction, up to a rounding; NaN becomes 0.
            let code = (x[half * LANES + i] * inverse).round_ties_even() as i32;
            codes[half * LANES + i] = code as i8;
            *sum += code;
        }
    }
    let start = |zero: i32, sum: i32| f32::from_bits((-zero * sum) as u32);
    let sum = sums[0] + sums[1];
    let fields = [
        scale,
        scale * sum as f32,
        start(8, sum),
        start(16, sum),
        start(128, sum),
        start(32, sums[0]),
        start(32, sums[1]),
    ];
    (Codes(codes), fields)
}
