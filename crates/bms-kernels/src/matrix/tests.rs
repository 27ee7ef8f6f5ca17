//! Packing loses nothing, and refuses what does not fit.

use super::*;
use crate::Isa;
use crate::matmul::tests::{plain_row, random_rows};

#[test]
fn every_row_comes_back_as_the_file_held_it() {
    let pool = Pool::new(3, Isa::best());
    for format in Format::ALL {
        for (rows, blocks) in [(1, 1), (15, 2), (16, 1), (17, 3), (50, 1)] {
            let cols = blocks * format.block_len();
            let bytes = random_rows(*format, rows, cols, 7);
            let matrix = Matrix::pack(&pool, *format, rows, cols, &bytes).unwrap();
            assert_eq!(matrix.bytes(), rows.next_multiple_of(LANES) * format.row_bytes(cols).unwrap());
            let mut found = vec![0.0; cols];
            for row in 0..rows {
                matrix.row(row, &mut found);
                let row_bytes = format.row_bytes(cols).unwrap();
                let expected = plain_row(*format, &bytes[row * row_bytes..][..row_bytes]);
                for (k, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let tolerance = 1e-6 * expected.abs().max(1e-3);
                    assert!(
                        (found - expected).abs() <= tolerance,
                        "{format} row {row} column {k}: {found} {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let pool = Pool::new(1, Isa::Scalar);
    let pack = |format, rows, cols, len| Matrix::pack(&pool, format, rows, cols, &vec![0; len]).err();
    assert_eq!(pack(Format::Q4_0, 1, 33, 18), Some(PackError::Shape));
    assert_eq!(pack(Format::Q4_K, 1, 32, 18), Some(PackError::Shape));
    assert_eq!(pack(Format::Q4_0, usize::MAX, 32, 18), Some(PackError::Shape));
    assert_eq!(pack(Format::Q4_0, 2, 32, 18), Some(PackError::Length { expected: 36, found: 18 }));
    assert_eq!(pack(Format::Q4_0, 0, 32, 0), None);
    assert_eq!(pack(Format::F32, 3, 0, 0), None);
}

#[test]
fn large_matrices_lie_in_pages_of_their_own() {
    let pool = Pool::new(2, Isa::best());
    let cols = 4096;
    let rows = 2050;
    let bytes = random_rows(Format::Q8_0, rows, cols, 3);
    let matrix = Matrix::pack(&pool, Format::Q8_0, rows, cols, &bytes).unwrap();
    let mut found = vec![0.0; cols];
    matrix.row(rows - 1, &mut found);
    let row_bytes = Format::Q8_0.row_bytes(cols).unwrap();
    assert_eq!(found, plain_row(Format::Q8_0, &bytes[(rows - 1) * row_bytes..]));
    assert_eq!(matrix.group(0).as_ptr() as usize % 64, 0);
}
