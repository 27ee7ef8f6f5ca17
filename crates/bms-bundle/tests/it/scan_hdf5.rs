//! The scanner on HDF5.

use bms_bundle::{Format, scan};

use crate::samples::{clean, finds, hostile_pickle};

/// A message of the second version's headers.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u16).to_le_bytes(), &[0], body].concat()
}

/// An object header of the second version. Checksums are not looked at.
fn header(messages: &[Vec<u8>]) -> Vec<u8> {
    let body = messages.concat();
    [&b"OHDR\x02\x02"[..], &(body.len() as u32).to_le_bytes(), &body, &[0; 4]].concat()
}

/// A file whose root group has these messages; what they point to follows the superblock at byte 48.
fn file(heap: &[u8], root: &[Vec<u8>]) -> Vec<u8> {
    let address = 48 + heap.len() as u64;
    let header = header(root);
    let end = address + header.len() as u64;
    let mut out = b"\x89HDF\r\n\x1a\n\x02\x08\x08\x00".to_vec();
    out.extend(0_u64.to_le_bytes());
    out.extend(u64::MAX.to_le_bytes());
    out.extend(end.to_le_bytes());
    out.extend(address.to_le_bytes());
    out.extend([0; 4]);
    [out, heap.to_vec(), header].concat()
}

/// An attribute with a text of fixed length.
fn attribute(name: &str, text: &str) -> Vec<u8> {
    let kind = [&[0x13, 0, 0, 0][..], &(text.len() as u32).to_le_bytes()].concat();
    let space = [2, 0, 0, 0];
    let name = [name.as_bytes(), &[0]].concat();
    let sizes = [name.len() as u16, kind.len() as u16, space.len() as u16].map(u16::to_le_bytes).concat();
    message(0x0c, &[&[3, 0][..], &sizes, &[0], &name, &kind, &space, text.as_bytes()].concat())
}

/// An attribute whose text lies in the global heap at byte 48.
fn long_attribute(name: &str, text: &str) -> (Vec<u8>, Vec<u8>) {
    let padded = text.len().next_multiple_of(8);
    let size = 16 + 16 + padded as u64;
    let mut heap = [
        &b"GCOL\x01\0\0\0"[..],
        &size.to_le_bytes(),
        &[1, 0, 1, 0, 0, 0, 0, 0],
        &(text.len() as u64).to_le_bytes(),
    ]
    .concat();
    heap.extend(text.as_bytes());
    heap.resize(size as usize, 0);
    let kind = [&[0x19, 1, 0, 0, 16, 0, 0, 0][..], &[0x13, 0, 0, 0, 1, 0, 0, 0]].concat();
    let name = [name.as_bytes(), &[0]].concat();
    let sizes = [name.len() as u16, kind.len() as u16, 4].map(u16::to_le_bytes).concat();
    let value =
        [&(text.len() as u32).to_le_bytes()[..], &48_u64.to_le_bytes(), &1_u32.to_le_bytes()].concat();
    (heap, message(0x0c, &[&[3, 0][..], &sizes, &[1], &name, &kind, &[2, 0, 0, 0], &value].concat()))
}

fn external_link() -> Vec<u8> {
    let target = b"\0/etc/passwd\0/x\0";
    message(0x06, &[&[1, 8, 64, 1][..], b"w", &(target.len() as u16).to_le_bytes(), target].concat())
}

const DENSE: &str =
    r#"{"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense", "config": {}}]}}"#;
const LAMBDA: &str =
    r#"{"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda", "config": {}}]}}"#;

/// Files to be damaged.
pub(crate) fn samples() -> Vec<Vec<u8>> {
    let (heap, long) = long_attribute("model_config", DENSE);
    vec![file(&heap, &[long]), file(&header(&[external_link()]), &[attribute("model_config", LAMBDA)])]
}

#[test]
fn ordinary_files_are_clean() {
    let (heap, long) = long_attribute("model_config", DENSE);
    for bytes in [
        file(&[], &[]),
        file(&[], &[attribute("model_config", DENSE), attribute("keras_version", "2.15")]),
        file(&heap, &[long]),
        // A soft link stays in the file.
        file(&[], &[message(0x06, &[&[1, 8, 1, 1][..], b"s", &[2, 0], b"/x"].concat())]),
        // A dataset of two by three.
        file(
            &[],
            &[message(0x01, &[&[2, 2, 0, 1][..], &2_u64.to_le_bytes(), &3_u64.to_le_bytes()].concat())],
        ),
    ] {
        assert_eq!(scan::scan_file("x", &bytes).format, Format::Hdf5);
        clean(&bytes);
    }
}

#[test]
fn configurations_in_attributes_are_read() {
    finds(&file(&[], &[attribute("model_config", LAMBDA)]), "keras-code");
    let (heap, long) = long_attribute("model_config", LAMBDA);
    finds(&file(&heap, &[long]), "keras-code");
    finds(
        &file(
            &[],
            &[attribute(
                "training_config",
                r#"{"loss": {"class_name": "function", "module": "builtins", "config": "exec"}}"#,
            )],
        ),
        "keras-import",
    );
    finds(&file(&[], &[attribute("model_config", "no JSON")]), "hdf5-malformed");
}

#[test]
fn ways_into_other_files_are_found() {
    finds(&file(&[], &[external_link()]), "hdf5-external-link");
    // In a group inside: a hard link to a header that holds the link.
    let inner = header(&[external_link()]);
    let hard = message(0x06, &[&[1, 0, 1][..], b"g", &48_u64.to_le_bytes()].concat());
    finds(&file(&inner, &[hard]), "hdf5-external-link");
    let external = [&[1, 0, 0, 0, 1, 0, 1, 0][..], &48_u64.to_le_bytes(), &[0; 24]].concat();
    finds(&file(&[], &[message(0x07, &external)]), "hdf5-external-data");
    finds(
        &file(&[], &[message(0x08, &[&[4, 3][..], &48_u64.to_le_bytes(), &[0; 4]].concat())]),
        "hdf5-virtual",
    );
}

#[test]
fn headers_that_continue_in_themselves_end() {
    // A block that only says that it goes on where it is.
    let again = message(0x10, &[48_u64.to_le_bytes(), 32_u64.to_le_bytes()].concat());
    let mut block = [b"OCHK".to_vec(), again.clone()].concat();
    block.resize(32, 0);
    finds(&file(&block, &[again]), "hdf5-malformed");
}

#[test]
fn bombs_damage_and_company_are_found() {
    let space = message(
        0x01,
        &[&[2, 2, 0, 1][..], &(1_u64 << 40).to_le_bytes(), &(1_u64 << 40).to_le_bytes()].concat(),
    );
    finds(&file(&[], &[space]), "hdf5-size-bomb");
    let whole = file(&[], &[attribute("model_config", DENSE)]);
    finds(&whole[..whole.len() - 8], "hdf5-malformed");
    let mut block = hostile_pickle();
    block.resize(512, 0);
    let behind = [block, whole].concat();
    finds(&behind, "pickle-import");
    finds(&behind, "polyglot");
}
