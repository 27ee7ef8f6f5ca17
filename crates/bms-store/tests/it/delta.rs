//! What a second version costs.

use bms_store::{Digest, Location, Store};

use crate::material::{get, noise, put};

/// A file like a model: tensors of different sizes, one after the other.
fn model(tensors: &[(u64, usize)]) -> Vec<u8> {
    let mut bytes = b"a header of some length".to_vec();
    for (seed, size) in tensors {
        bytes.extend(noise(*seed, *size));
    }
    bytes
}

async fn check(count: usize, scale: usize) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Location::Folder(dir.path().to_owned())).await.unwrap();
    // As in a decoder: large matrices and small norms.
    let tensors: Vec<(u64, usize)> =
        (0..count).map(|n| (n as u64, if n % 9 == 0 { scale / 64 } else { scale * (1 + n % 4) })).collect();
    let first = model(&tensors);
    let pushed = put(&store, &first).await.unwrap();
    assert!(pushed.bytes_moved < first.len() as u64 * 103 / 100, "{pushed:?}");

    let again = put(&store, &first).await.unwrap();
    assert_eq!((again.bytes_moved, again.chunks_new), (0, 0), "the same file again moves nothing");

    // Every twentieth tensor is another, and the header is longer, so that everything moved.
    let second: Vec<(u64, usize)> = tensors
        .iter()
        .enumerate()
        .map(|(n, t)| if n % 20 == 10 { (t.0 + 1_000_000, t.1) } else { *t })
        .collect();
    let changed: usize = second.iter().zip(&tensors).filter(|(a, b)| a != b).map(|(a, _)| a.1).sum();
    let second = [b"longer: ".to_vec(), model(&second)].concat();
    let pushed = put(&store, &second).await.unwrap();
    let share = pushed.bytes_moved as f64 / second.len() as f64;
    let least = changed as f64 / second.len() as f64;
    println!("{} MiB, {:.1} % changed: {:.2} % moved", second.len() >> 20, least * 100.0, share * 100.0);
    assert!((0.04..0.06).contains(&least));
    assert!(share <= 0.08, "{share} of the second version moved");
    assert!(get(&store, Digest::of(&second)).await.unwrap() == second);
}

#[tokio::test]
async fn a_second_version_moves_little_more_than_what_changed() {
    check(120, 100 << 10).await;
    check(120, 400 << 10).await;
}

#[tokio::test]
async fn a_large_one_too() {
    check(160, 1 << 20).await;
}
