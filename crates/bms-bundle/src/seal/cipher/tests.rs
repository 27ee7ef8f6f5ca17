use super::{DataKey, Place, SealKeys, file_binding};

fn place(binding: &[u8; 32]) -> Place<'_> {
    Place { binding, path: "model.onnx", file: 1, chunk: 7, is_last: false }
}

#[test]
fn a_chunk_opens_in_its_own_place_only() {
    let key = DataKey::from_bytes(&[5; 32]).unwrap();
    let keys = SealKeys::derive(&key, &[1; 16]);
    let binding = file_binding(&[1; 16], "digits", "d1", (1, "model.onnx", 100), 200);
    let here = place(&binding);
    let mut chunk = *b"twelve bytes";
    let tag = keys.seal_chunk(&here, &mut chunk).unwrap();
    let sealed = [&chunk[..], &tag[..]].concat();
    let opens = |keys: &SealKeys, place: Place<'_>, sealed: &[u8]| {
        let mut plain = vec![0; sealed.len() - 16];
        keys.open_chunk(&place, sealed, &mut plain).is_ok().then_some(plain)
    };
    assert_eq!(opens(&keys, here, &sealed).unwrap(), b"twelve bytes");
    assert!(opens(&keys, Place { chunk: 8, ..here }, &sealed).is_none(), "another place");
    assert!(opens(&keys, Place { file: 2, ..here }, &sealed).is_none(), "another file");
    assert!(opens(&keys, Place { is_last: true, ..here }, &sealed).is_none(), "the end");
    assert!(opens(&keys, here, &sealed[1..]).is_none(), "cut");
    let others = [
        file_binding(&[2; 16], "digits", "d1", (1, "model.onnx", 100), 200),
        file_binding(&[1; 16], "digitsd", "1", (1, "model.onnx", 100), 200),
        file_binding(&[1; 16], "digits", "d1", (1, "model.onnx", 101), 200),
        file_binding(&[1; 16], "digits", "d1", (1, "model.onn", 100), 200),
        file_binding(&[1; 16], "digits", "d1", (1, "model.onnx", 100), 201),
    ];
    for other in &others {
        assert!(opens(&keys, place(other), &sealed).is_none());
    }
    assert!(opens(&SealKeys::derive(&key, &[2; 16]), here, &sealed).is_none(), "another seal");
}

#[test]
fn a_commitment_tells_keys_and_seals_apart() {
    let of = |key: u8, seal: u8| {
        SealKeys::derive(&DataKey::from_bytes(&[key; 32]).unwrap(), &[seal; 16]).commitment()
    };
    assert_eq!(of(1, 1), of(1, 1));
    assert_ne!(of(1, 1), of(2, 1));
    assert_ne!(of(1, 1), of(1, 2));
    assert_eq!(format!("{:?}", DataKey::generate().unwrap()), "DataKey(…)");
}
