use bms_wire::Code;

use super::*;

/// A file with one F32 tensor of 2 rows and 3 columns and one Q8_0 tensor of one block.
fn sample() -> Vec<u8> {
    let pairs = [
        ("general.architecture".to_string(), Pair::Text("llama".into())),
        ("llama.block_count".to_string(), Pair::U32(2)),
        ("llama.rope.freq_base".to_string(), Pair::F32(1e4)),
        ("tokenizer.ggml.add_bos_token".to_string(), Pair::Bool(true)),
        ("tokenizer.ggml.tokens".to_string(), Pair::Texts(vec![b"a".to_vec(), vec![0xff], vec![]])),
        ("tokenizer.ggml.scores".to_string(), Pair::Reals(vec![0.5, -1.0])),
        ("tokenizer.ggml.token_type".to_string(), Pair::Wholes(vec![1, 3])),
    ];
    let kind = |number| TensorKind::from_number(number).unwrap();
    let entries = vec![
        Entry { name: "a".into(), kind: kind(0), dims: vec![3, 2] },
        Entry { name: "b".into(), kind: kind(8), dims: vec![32] },
    ];
    let mut writer = GgufWriter::new(Vec::new(), &pairs, entries).unwrap();
    for value in 0..6 {
        writer.write(&(value as f32).to_le_bytes()).unwrap();
    }
    writer.write(&[7; 34]).unwrap();
    writer.finish().unwrap()
}

#[test]
fn what_is_written_is_read() {
    let bytes = sample();
    let file = GgufFile::parse(&bytes).unwrap();
    assert_eq!(file.metadata.text("general.architecture").unwrap(), Some("llama"));
    assert_eq!(file.metadata.number("llama.block_count").unwrap(), Some(2));
    assert_eq!(file.metadata.real("llama.rope.freq_base").unwrap(), Some(1e4));
    assert_eq!(file.metadata.flag("tokenizer.ggml.add_bos_token").unwrap(), Some(true));
    let texts: [&[u8]; 3] = [b"a", b"\xff", b""];
    assert_eq!(file.metadata.texts("tokenizer.ggml.tokens").unwrap().unwrap(), texts);
    assert_eq!(file.metadata.reals("tokenizer.ggml.scores").unwrap().unwrap(), [0.5, -1.0]);
    assert_eq!(file.metadata.numbers("tokenizer.ggml.token_type").unwrap().unwrap(), [1, 3]);
    assert_eq!(file.metadata.number("absent").unwrap(), None);
    let a = file.tensor("a").unwrap();
    assert_eq!((a.dims(), a.cols(), a.rows(), a.kind.name()), (&[3, 2][..], 3, 2, "F32"));
    assert_eq!(a.bytes[20..], 5_f32.to_le_bytes());
    assert_eq!(file.tensor("b").unwrap().bytes, [7; 34]);
    assert!(file.tensor("c").is_none());
}

#[test]
fn copied_pairs_stay_byte_for_byte() {
    let bytes = sample();
    let file = GgufFile::parse(&bytes).unwrap();
    let pairs: Vec<(String, Pair)> =
        file.metadata.pairs().iter().map(|(key, value)| (key.to_string(), Pair::copied(*value))).collect();
    let again = GgufWriter::new(Vec::new(), &pairs, Vec::new()).unwrap().finish().unwrap();
    let copy = GgufFile::parse(&again).unwrap();
    assert_eq!(copy.metadata.pairs(), file.metadata.pairs());
}

#[test]
fn a_value_of_another_type_is_an_error_not_absent() {
    let bytes = sample();
    let metadata = GgufFile::parse(&bytes).unwrap().metadata;
    for error in [
        metadata.number("general.architecture").unwrap_err(),
        metadata.text("llama.block_count").unwrap_err(),
        metadata.flag("llama.block_count").unwrap_err(),
        metadata.real("llama.block_count").unwrap_err(),
        metadata.reals("tokenizer.ggml.tokens").unwrap_err(),
        metadata.texts("tokenizer.ggml.scores").unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::InvalidBundle, "{error}");
    }
}

#[test]
fn every_cut_and_every_changed_byte_is_survived() {
    let bytes = sample();
    for length in 0..bytes.len() {
        let cut = GgufFile::parse(&bytes[..length]);
        // The last tensor ends before the padding does.
        assert_eq!(cut.is_ok(), bytes.len() - 30 <= length, "cut to {length} of {}", bytes.len());
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bad = bytes.clone();
            bad[at] = value;
            if let Ok(file) = GgufFile::parse(&bad) {
                for (_, value) in file.metadata.pairs() {
                    if let Value::Array(array) = value {
                        assert_eq!(array.iter().count(), array.len());
                    }
                }
            }
        }
    }
}

/// A file of `pairs` raw pairs and the raw table entries given.
fn raw(version: u32, pairs: &[&[u8]], entries: &[(&str, &[u64], u32, u64)], data: usize) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend((entries.len() as u64).to_le_bytes());
    bytes.extend((pairs.len() as u64).to_le_bytes());
    pairs.iter().for_each(|pair| bytes.extend(*pair));
    for (name, dims, kind, offset) in entries {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|dim| bytes.extend(dim.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
    bytes
}

fn pair(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = (key.len() as u64).to_le_bytes().to_vec();
    bytes.extend(key.as_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend(value);
    bytes
}

#[track_caller]
fn refused(bytes: &[u8], code: Code, part: &str) {
    let error = GgufFile::parse(bytes).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.message().contains(part), "`{error}` does not say `{part}`");
}

#[test]
fn layouts_that_cannot_be_are_refused() {
    let bad = |entries: &[(&str, &[u64], u32, u64)], part: &str| {
        refused(&raw(3, &[], entries, 256), Code::InvalidBundle, part);
    };
    bad(&[("t", &[8], 0, 256)], "beyond the end");
    bad(&[("t", &[8], 0, u64::MAX - 31)], "beyond the end");
    bad(&[("t", &[8], 0, 4)], "does not lie on 32 bytes");
    bad(&[("t", &[16], 0, 0), ("u", &[8], 0, 32)], "share bytes");
    bad(&[("t", &[8], 0, 0), ("t", &[8], 0, 32)], "given twice");
    bad(&[("t", &[0], 0, 0)], "impossible size");
    bad(&[("t", &[u64::MAX], 0, 0)], "impossible size");
    bad(&[("t", &[1 << 32, 1 << 32], 0, 0)], "impossible size");
    bad(&[("t", &[1 << 62, 1], 0, 0)], "rows of");
    bad(&[("t", &[33], 2, 0)], "whole blocks of 32");
    bad(&[("t", &[8], 4, 0)], "unknown type 4");
    bad(&[("t", &[1, 1, 1, 1, 1], 0, 0)], "5 dimensions");
    bad(&[("t", &[], 0, 0)], "0 dimensions");
    bad(&[(&"n".repeat(257), &[8], 0, 0)], "claims 257 bytes");
    assert!(GgufFile::parse(&raw(2, &[], &[("t", &[8], 0, 224)], 256)).is_ok());
}

#[test]
fn headers_that_lie_are_refused() {
    let bad = |pairs: &[&[u8]], part: &str| refused(&raw(3, pairs, &[], 64), Code::InvalidBundle, part);
    bad(&[&pair("general.alignment", 4, &0_u32.to_le_bytes())], "alignment is 0");
    bad(&[&pair("general.alignment", 4, &24_u32.to_le_bytes())], "alignment is 24");
    bad(&[&pair("general.alignment", 8, &[1, 0, 0, 0, 0, 0, 0, 0, b'x'])], "must be a whole number");
    bad(&[&pair("k", 13, &[0; 8])], "unknown type 13");
    bad(&[&pair("k", 8, &u64::MAX.to_le_bytes())], "claims 18446744073709551615 bytes");
    let array = |kind: u32, length: u64| [&kind.to_le_bytes()[..], &length.to_le_bytes()].concat();
    bad(&[&pair("k", 9, &array(4, u64::MAX / 4))], "claims");
    bad(&[&pair("k", 9, &array(8, 1 << 40))], "claims");
    let nested = [array(9, 1), array(9, 1), array(9, 1), array(0, 0)].concat();
    bad(&[&pair("k", 9, &nested)], "2 deep");
    let twice = pair("k", 0, &[1]);
    bad(&[&twice, &twice], "given twice");
}

#[test]
fn files_of_another_kind_are_named() {
    refused(b"GGML", Code::InvalidBundle, "does not begin");
    refused(&raw(1, &[], &[], 0), Code::UnsupportedModel, "version 1");
    refused(&raw(3_u32.swap_bytes(), &[], &[], 0), Code::UnsupportedModel, "big-endian");
    refused(&raw(9, &[], &[], 0), Code::InvalidBundle, "version is 9");
    let part = pair("split.count", 2, &3_u16.to_le_bytes());
    refused(&raw(3, &[&part], &[], 0), Code::UnsupportedModel, "one of 3 parts");
}

#[test]
fn the_writer_takes_exactly_what_was_announced() {
    let entry = || Entry { name: "t".into(), kind: TensorKind::from_number(0).unwrap(), dims: vec![2] };
    let mut writer = GgufWriter::new(Vec::new(), &[], vec![entry()]).unwrap();
    assert_eq!(writer.write(&[0; 9]).unwrap_err().code(), Code::Internal);
    writer.write(&[0; 4]).unwrap();
    assert_eq!(writer.finish().unwrap_err().code(), Code::Internal);
    let odd = Entry { kind: TensorKind::from_number(2).unwrap(), ..entry() };
    assert_eq!(GgufWriter::new(Vec::new(), &[], vec![odd]).unwrap_err().code(), Code::InvalidInput);
}

#[test]
fn the_kernels_formats_are_types_of_the_files() {
    use bms_kernels::Format as F;
    let all =
        [F::F32, F::F16, F::BF16, F::Q8_0, F::Q4_0, F::Q4_1, F::Q5_0, F::Q5_1, F::Q4_K, F::Q5_K, F::Q6_K];
    for format in all {
        let kind = TensorKind::from(format);
        assert_eq!(kind.format(), Some(format));
        assert_eq!((kind.block_len(), kind.block_bytes()), (format.block_len(), format.block_bytes()));
    }
}
