use super::*;

fn whole(chunks: &[&[u8]]) -> (Vec<u8>, Vec<Entry>) {
    let packed: Vec<_> =
        chunks.iter().map(|chunk| Packed::new(Digest::of(chunk), Bytes::copy_from_slice(chunk))).collect();
    let entries: Vec<_> = packed.iter().map(|packed| packed.entry).collect();
    let mut bytes = MAGIC.to_vec();
    packed.iter().for_each(|packed| bytes.extend_from_slice(&packed.stored));
    bytes.extend(write_list(&entries));
    (bytes, entries)
}

#[test]
fn a_list_is_read_back_from_any_tail_that_holds_it() {
    let words = b"words and words ".repeat(100);
    let (bytes, entries) = whole(&[&words, b"raw"]);
    assert!(entries[0].squeezed.is_some() && entries[1].squeezed.is_none());
    let (name, size) = (Name::new(), bytes.len() as u64);
    let List::Whole(contents) = read_list(name, size, &bytes).unwrap() else { panic!("all of it was given") };
    assert_eq!(contents.entries, entries);
    for (place, entry) in contents.places() {
        assert!(entry.holds(&bytes[place as usize..][..entry.stored as usize]));
    }
    let List::Longer(needed) = read_list(name, size, &bytes[bytes.len() - 60..]).unwrap() else {
        panic!("60 bytes are not enough")
    };
    let tail = &bytes[bytes.len() - needed as usize..];
    assert!(matches!(read_list(name, size, tail), Ok(List::Whole(read)) if read == contents));
}

#[test]
fn a_flip_anywhere_in_a_pack_is_seen() {
    let words = b"words and words ".repeat(100);
    let (bytes, _) = whole(&[&words, b"raw"]);
    let name = Name::new();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        let well = flipped.starts_with(MAGIC)
            && matches!(read_list(name, bytes.len() as u64, &flipped), Ok(List::Whole(contents))
                if contents.places().all(|(place, entry)|
                    entry.holds(&flipped[place as usize..][..entry.stored as usize])));
        assert!(!well, "byte {at}");
    }
}
