use super::*;
use crate::check::{Tolerance, assert_close, guarded, pools, random};

/// A thousand terms below one.
const TOLERANCE: Tolerance = Tolerance { absolute: 3e-5, relative: 0.0 };

#[test]
fn products_of_any_shape_are_near_their_definition() {
    for pool in pools() {
        for rows in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 33] {
            for (width, cols) in
                [(1, 1), (3, 5), (16, 16), (17, 33), (8, 255), (40, 256), (31, 257), (300, 16), (16, 700)]
            {
                let (x, w) = (random(1, rows * cols), random(2, width * cols));
                let exact: Vec<f64> = (0..rows * width)
                    .map(|i| {
                        let (x, w) = (&x[i / width * cols..][..cols], &w[i % width * cols..][..cols]);
                        x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum()
                    })
                    .collect();
                let found = guarded(&vec![9.0; rows * width], |out| gemm_f32(&pool, &x, rows, &w, cols, out));
                assert_close(&found, &exact, TOLERANCE, format!("{rows}x{cols}x{width} on {}", pool.isa()));
            }
        }
    }
}

#[test]
#[should_panic(expected = "results of 2 rows of 3")]
fn results_that_do_not_fit_are_refused() {
    gemm_f32(&pools()[0], &[0.0; 4], 2, &[0.0; 6], 2, &mut [0.0; 5]);
}
