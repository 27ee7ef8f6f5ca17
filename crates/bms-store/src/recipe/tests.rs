use super::*;

fn recipe() -> Recipe {
    let chunks = (1..=3_u32).map(|n| ChunkRef { id: Digest::of(&[n as u8]), size: n }).collect();
    Recipe { digest: Digest::of(b"x"), sha256: [7; 32], size: 6, chunks }
}

#[test]
fn it_reads_what_it_wrote_and_nothing_else() {
    let written = recipe().write();
    assert_eq!(Recipe::read(&written).unwrap(), recipe());
    for at in 0..written.len() {
        let mut changed = written.clone();
        changed[at] ^= 0x10;
        assert_eq!(Recipe::read(&changed).unwrap_err().code(), Code::Tampered, "byte {at}");
        assert_eq!(Recipe::read(&written[..at]).unwrap_err().code(), Code::Tampered, "{at} bytes");
    }
}

#[test]
fn sizes_have_to_add_up() {
    let with = |size, first| {
        let mut recipe = Recipe { size, ..recipe() };
        recipe.chunks[0].size = first;
        recipe.check().map_err(|e| e.code())
    };
    assert_eq!(with(6, 1), Ok(()));
    assert_eq!(with(7, 1), Err(Code::InvalidRequest));
    assert_eq!(with(5, 0), Err(Code::InvalidRequest));
    assert_eq!(with(5 + (5 << 20), 5 << 20), Err(Code::InvalidRequest));
    assert_eq!(with(limits::BLOB_BYTES_MAX + 1, 1), Err(Code::TooLarge));
}
