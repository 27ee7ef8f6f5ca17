use super::*;

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn chunks(cutter: &Cutter, mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    while let Some(length) = cutter.cut(bytes, true) {
        chunks.push(bytes[..length].to_vec());
        bytes = &bytes[length..];
    }
    chunks
}

#[test]
fn chunks_are_the_file_and_within_their_bounds() {
    for (size, average) in [(1 << 20, 8 << 10), (256 << 20, 64 << 10), (64_u64 << 30, 1 << 20)] {
        let cutter = Cutter::for_size(Some(size));
        assert_eq!(cutter.average, average);
        let bytes = noise(size, 16 << 20);
        let chunks = chunks(&cutter, &bytes);
        assert!(chunks.concat() == bytes);
        let (last, rest) = chunks.split_last().unwrap();
        assert!(rest.iter().all(|chunk| (cutter.min..=cutter.max).contains(&chunk.len())));
        assert!(last.len() <= cutter.max);
        let mean = bytes.len() / chunks.len();
        assert!((average / 2..average * 2).contains(&mean), "{mean} for {average}");
    }
}

#[test]
fn the_cuts_are_those_of_the_format() {
    let bytes = noise(7, 256 << 10);
    let sizes: Vec<_> = chunks(&Cutter::for_size(Some(1)), &bytes).iter().map(Vec::len).collect();
    let digest = blake3::hash(format!("{sizes:?}").as_bytes()).to_hex();
    assert_eq!(
        &digest[..16],
        "88bd605ec48878db",
        "other cuts find nothing again that was stored with these: {sizes:?}"
    );
}

#[test]
fn pieces_give_the_cuts_of_the_whole() {
    let cutter = Cutter::for_size(None);
    let bytes = noise(1, 3 << 20);
    let whole: Vec<_> = chunks(&cutter, &bytes).iter().map(Vec::len).collect();
    let (mut sizes, mut buffer) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(10_007) {
        buffer.extend_from_slice(piece);
        while let Some(length) = cutter.cut(&buffer, false) {
            sizes.push(length);
            buffer.drain(..length);
        }
    }
    while let Some(length) = cutter.cut(&buffer, true) {
        sizes.push(length);
        buffer.drain(..length);
    }
    assert_eq!(sizes, whole);
}

#[test]
fn an_insertion_changes_few_chunks() {
    let cutter = Cutter::for_size(Some(1 << 20));
    let bytes = noise(2, 4 << 20);
    let before: std::collections::BTreeSet<_> = chunks(&cutter, &bytes).into_iter().collect();
    let mut changed = bytes.clone();
    changed.splice(1_000_000..1_000_000, *b"some words");
    let new = chunks(&cutter, &changed).into_iter().filter(|chunk| !before.contains(chunk)).count();
    assert!((1..=4).contains(&new), "{new} chunks are new");
}

#[test]
fn equal_bytes_are_cut_at_the_maximum_and_nothing_is_no_chunk() {
    let cutter = Cutter::for_size(Some(1));
    assert_eq!(cutter.cut(&[], true), None);
    assert_eq!(cutter.cut(&[1], true), Some(1));
    assert_eq!(cutter.cut(&[1], false), None);
    assert_eq!(cutter.cut(&vec![0; 1 << 20], true), Some(cutter.max()));
}
