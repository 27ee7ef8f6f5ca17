use super::*;
use crate::Isa;

#[test]
fn every_row_is_visited_once() {
    for threads in [1, 2, 3] {
        let pool = Pool::new(threads, Isa::Scalar);
        for (rows, grain) in [(0, 1), (1, 1), (5, 1), (64, 1), (65, 7), (65, 100), (3, 0)] {
            let (mut wide, mut narrow) = (vec![0.0; rows * 3], vec![0.0; rows]);
            for_rows(&pool, rows, grain, [&mut wide, &mut narrow], &|range, [wide, narrow]| {
                assert_eq!((wide.len(), narrow.len()), (range.len() * 3, range.len()));
                for (at, row) in range.enumerate() {
                    wide[at * 3 + 2] += 1.0;
                    narrow[at] += row as f32;
                }
            });
            let wanted: Vec<f32> = (0..rows).map(|row| row as f32).collect();
            assert_eq!(narrow, wanted, "{rows} rows, {threads} threads");
            assert!(wide.chunks(3).all(|row| row == [0.0, 0.0, 1.0]));
        }
    }
}
