use super::*;

#[test]
fn what_shrinks_is_compressed_and_what_does_not_is_kept() {
    let words = b"the same words again and again, ".repeat(1000);
    let stored = compress(&words).unwrap();
    assert!(stored.len() < words.len() / 10);
    let back = decode(&stored, Encoding::Zstd, words.len() as u32, Digest::of(&words)).unwrap();
    assert_eq!(&back[..], &words[..]);

    let mut noise = vec![0; 64 << 10];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    assert_eq!(compress(&noise), None);
    assert_eq!(compress(b""), None);
}

#[test]
fn other_bytes_and_other_sizes_are_rot() {
    let words = b"the same words again and again, ".repeat(1000);
    let (digest, size) = (Digest::of(&words), words.len() as u32);
    let stored = compress(&words).unwrap();
    for at in 0..stored.len() {
        let mut rotten = stored.clone();
        rotten[at] ^= 1;
        if let Ok(back) = decode(&rotten, Encoding::Zstd, size, digest) {
            assert_eq!(&back[..], &words[..], "a flip that means nothing");
        }
    }
    for size in [0, size - 1, size + 1, u32::from(u16::MAX)] {
        assert_eq!(decode(&stored, Encoding::Zstd, size, digest).unwrap_err().code(), Code::Tampered);
    }
    assert_eq!(decode(&words[1..], Encoding::Raw, size, digest).unwrap_err().code(), Code::Tampered);
}
