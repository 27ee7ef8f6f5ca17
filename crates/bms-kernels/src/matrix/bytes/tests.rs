//! Parts of regions are zero, aligned and nobody else's.

use super::*;

#[test]
fn parts_do_not_overlap() {
    let sizes = [1, 63, 64, 65, 4096, 3 << 20, REGION + 5, 100, 0];
    let mut parts: Vec<AlignedBytes> = Vec::new();
    for round in 0..3 {
        for (i, size) in sizes.into_iter().enumerate() {
            let mut part = AlignedBytes::zeroed(size).unwrap();
            assert_eq!(part.len(), size);
            assert!(part.as_ref().iter().all(|byte| *byte == 0));
            assert!(size == 0 || (part.as_ref().as_ptr() as usize).is_multiple_of(LINE));
            part.as_mut().fill((round * sizes.len() + i + 1) as u8);
            parts.push(part);
        }
    }
    for (i, part) in parts.iter().enumerate() {
        assert!(part.as_ref().iter().all(|byte| usize::from(*byte) == i + 1), "part {i}");
    }
    assert!(AlignedBytes::zeroed(usize::MAX - 1).is_none());
}
