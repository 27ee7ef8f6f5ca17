use super::{DataKey, Place, SealKeys, derive, file_binding};

fn place(binding: &[u8; 32]) -> Place<'_> {
    Place { binding, path: "model.onnx", file: 1, chunk: 7, is_last: false }
}

#[test]
fn a_chunk_opens_in_its_own_place_only() {
    let key = DataKey::from_bytes(&[5; 32]).unwrap();
    let keys = SealKeys::derive(&key, &[1; 16]);
    let binding = file_binding(&[1; 16], "digits", "d1", (1, "model.onnx", 100), 200);
    let here = place(&binding);
    let mut sealed = vec![0; 28];
    keys.seal_chunk(&here, b"twelve bytes", &mut sealed).unwrap();
    assert!(keys.seal_chunk(&here, b"twelve bytes", &mut [0; 27]).is_err(), "no room for the tag");
    assert!(keys.seal_chunk(&here, b"twelve bytes", &mut [0; 29]).is_err(), "room for more than the tag");
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

/// Computed with Python's hmac and OpenSSL's cipher (the package `cryptography`) from what ADR 12 says: what is sealed today
/// opens whatever library the cipher comes from.
#[test]
fn keys_and_chunks_are_those_of_another_implementation() {
    let seal: [u8; 16] = std::array::from_fn(|i| i as u8);
    let key: [u8; 32] = std::array::from_fn(|i| 100 + i as u8);
    let keys = SealKeys::derive(&DataKey::from_bytes(&key).unwrap(), &seal);
    assert_eq!(keys.commitment(), "5f7885129587251ae523b78032b1f7897f3b7646e3b0fc614b099ed194d78c24");

    let binding = file_binding(&seal, "digits", "d1", (1, "model.onnx", 100), 200);
    let plain = b"what is sealed today opens tomorrow";
    let known = "8e912fbc123278921df4c6154e9e3e94ff7b150d501c1327340daac4fb24b8695650f86f4cfd189c546120a85c2d4b8be4cd59";
    let mut sealed = vec![0; plain.len() + 16];
    keys.seal_chunk(&place(&binding), plain, &mut sealed).unwrap();
    assert_eq!(hex::encode(&sealed), known);
    let mut opened = vec![0; plain.len()];
    keys.open_chunk(&place(&binding), &sealed, &mut opened).unwrap();
    assert_eq!(opened, plain);

    let mut header = b"the list of files".to_vec();
    keys.seal_header(b"preamble", &mut header).unwrap();
    assert_eq!(hex::encode(&header), "c301c941d7257dbf9756a50678e3c70ff76bee83b8cf4ed485a9ae8de4b823e6b5");
    assert_eq!(**keys.open_header(b"preamble", &header).unwrap(), *b"the list of files");

    let mut derived = [0; 32];
    derive(&seal, b"secret", &[b"a", b"b"], &mut derived);
    assert_eq!(hex::encode(derived), "b2900ca4437b96eec079812fd38bfa03b08d30d48ee5cd38045f8a626f3444bd");
}

#[test]
fn nothing_of_a_refused_chunk_is_left() {
    let keys = SealKeys::derive(&DataKey::from_bytes(&[5; 32]).unwrap(), &[1; 16]);
    let binding = [7; 32];
    let mut sealed = vec![0; 4096 + 16];
    keys.seal_chunk(&place(&binding), &[0xab; 4096], &mut sealed).unwrap();
    for at in [0, 4095, 4096, 4111] {
        sealed[at] ^= 1;
        let mut plain = vec![0xcd; 4096];
        assert!(keys.open_chunk(&place(&binding), &sealed, &mut plain).is_err(), "byte {at}");
        assert!(plain.iter().all(|&byte| byte == 0), "byte {at}");
        sealed[at] ^= 1;
    }
}
