//! The scanner on safetensors files.

use bms_bundle::{Format, Nature, scan};

use crate::samples::{clean, finds, safetensors, safetensors_of, serious};

fn one(dtype: &str, shape: &str, offsets: &str, data: &[u8]) -> Vec<u8> {
    safetensors_of(
        &format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#),
        data,
    )
}

#[test]
fn ordinary_files_are_clean() {
    assert_eq!(scan::scan_file("x", &safetensors()).format, Format::Safetensors);
    clean(&safetensors());
    clean(&safetensors_of("{}      ", &[]));
    clean(&one("F32", "[]", "[0,4]", &[0; 4]));
    clean(&one("F4", "[3,2]", "[0,3]", &[0; 3]));
    clean(&one("F8_E4M3", "[0,5]", "[0,0]", &[]));
}

#[test]
fn tensors_that_contradict_themselves_are_found() {
    for file in [
        one("F32", "[2]", "[0,4]", &[0; 4]),
        one("F33", "[1]", "[0,4]", &[0; 4]),
        one("F32", "[-1]", "[0,4]", &[0; 4]),
        one("F32", "[1.5]", "[0,6]", &[0; 6]),
        one("F32", "[4611686018427387904,4]", "[0,0]", &[]),
        one("F32", "[1]", "[4,0]", &[0; 4]),
        one("F32", "[1]", "[0]", &[0; 4]),
        one("F32", "1", "[0,4]", &[0; 4]),
        one("F4", "[1]", "[0,1]", &[0; 1]),
        safetensors_of(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"extra":1}}"#, &[0; 4]),
        safetensors_of(r#"{"w":[1,2]}"#, &[0; 4]),
    ] {
        finds(&file, "safetensors-tensor");
    }
}

#[test]
fn bytes_that_belong_to_none_or_two_are_found() {
    let two = |first: &str, second: &str, data: &[u8]| {
        let tensor = |offsets: &str| format!(r#"{{"dtype":"U8","shape":[4],"data_offsets":{offsets}}}"#);
        safetensors_of(&format!(r#"{{"a":{},"b":{}}}"#, tensor(first), tensor(second)), data)
    };
    clean(&two("[0,4]", "[4,8]", &[0; 8]));
    clean(&two("[4,8]", "[0,4]", &[0; 8]));
    finds(&two("[0,4]", "[2,6]", &[0; 6]), "safetensors-overlap");
    finds(&two("[0,4]", "[0,4]", &[0; 4]), "safetensors-overlap");
    finds(&two("[0,4]", "[5,9]", &[0; 9]), "safetensors-hole");
    finds(&two("[0,4]", "[4,8]", &[0; 9]), "safetensors-trailing");
}

#[test]
fn what_comes_after_is_named() {
    let file = [safetensors(), b"\x7fELF\x02\x01\x01".to_vec()].concat();
    assert!(serious(&file)[0].message.contains("a program"));
}

#[test]
fn a_truncated_file_is_malformed_and_no_attack() {
    let whole = safetensors();
    for length in [whole.len() - 1, whole.len() - 11, 60] {
        let found = serious(&whole[..length]);
        assert_eq!(found.len(), 1, "{length}: {found:?}");
        assert_eq!(found[0].nature, Nature::Malformed);
    }
}

#[test]
fn headers_that_lie_are_found() {
    let mut long = safetensors();
    long[..8].copy_from_slice(&(1_u64 << 50).to_le_bytes());
    finds(&long, "safetensors-size-bomb");
    long[..8].fill(0xff);
    finds(&long, "safetensors-size-bomb");
    finds(
        &safetensors_of(r#"{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{}}"#, &[]),
        "safetensors-repeated",
    );
    finds(&safetensors_of(&format!("{{\"w\":{}", "[".repeat(5000)), &[]), "safetensors-header");
}
