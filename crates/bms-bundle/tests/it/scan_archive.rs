//! The scanner on archives, compressed files, arrays and programs.

use std::io::Write;

use bms_bundle::{Format, scan};

use crate::samples::{Entry, clean, entry, finds, hostile_pickle, onnx, pickle, rules, safetensors, zip};

/// A torch checkpoint around a pickle.
fn checkpoint(data: &[u8]) -> Vec<u8> {
    zip(&[
        entry("archive/data.pkl", data),
        entry("archive/version", b"3\n"),
        entry("archive/data/0", &[1; 64]),
    ])
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn tar(name: &str, kind: u8, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..262].copy_from_slice(b"ustar");
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend_from_slice(content);
    header.resize(header.len().next_multiple_of(512) + 1024, 0);
    header
}

#[test]
fn members_are_scanned_by_content() {
    assert_eq!(scan::scan_file("model.onnx", &checkpoint(&pickle())).format, Format::Zip);
    clean(&checkpoint(&pickle()));
    for name in ["archive/data.pkl", "readme.txt", "weights"] {
        finds(&zip(&[entry(name, &hostile_pickle())]), "pickle-import");
        finds(&zip(&[entry(name, b"cos\nsystem\n(S'echo nope'\ntR.")]), "pickle-import");
    }
    finds(&zip(&[entry("archive/data/0", b"\x7fELF\x02\x01\x01")]), "executable");
}

#[test]
fn archives_inside_archives_are_scanned() {
    let inner = checkpoint(&hostile_pickle());
    finds(&zip(&[entry("inner.zip", &inner)]), "pickle-import");
    finds(&gzip(&inner), "pickle-import");
    finds(&tar("model.pt", b'0', "", &inner), "pickle-import");
    let mut deep = pickle();
    for _ in 0..20 {
        deep = zip(&[entry("inner.zip", &deep)]);
    }
    finds(&deep, "nesting-bomb");
}

#[test]
fn headers_that_hide_members_are_found() {
    let data = pickle();
    let with = |change: &dyn Fn(&mut Entry<'_>)| {
        let mut member = entry("archive/data.pkl", &data);
        change(&mut member);
        rules(&zip(&[member]))
    };
    for (flags, rule) in [(0x1, "zip-flags"), (0x40, "zip-flags"), (0x2000, "zip-flags"), (0x20, "zip-flags")]
    {
        assert!(with(&|member| member.flags = flags).contains(&rule.to_owned()), "{flags:#x}");
    }
    assert!(with(&|member| member.own_name = Some("archive/data.txt")).contains(&"zip-name".to_owned()));
    assert!(with(&|member| member.crc_error = 1).contains(&"zip-checksum".to_owned()));
    assert!(with(&|member| member.mode = 0o120_777).contains(&"archive-link".to_owned()));
    finds(&zip(&[entry("a", &data), entry("a", &data)]), "zip-repeated");
    finds(&zip(&[entry("data.pkl", &data), entry("DATA.PKL", &data)]), "zip-repeated");
}

#[test]
fn hidden_flags_do_not_stop_the_scan() {
    let hostile = hostile_pickle();
    let mut member = entry("archive/data.pkl", &hostile);
    member.flags = 1;
    member.crc_error = 1;
    finds(&zip(&[member]), "pickle-import");
}

#[test]
fn paths_that_leave_the_folder_are_found() {
    for name in ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:\\evil"] {
        finds(&zip(&[entry(name, b"x")]), "archive-path");
        finds(&tar(name, b'0', "", b"x"), "archive-path");
    }
    clean(&tar("folder/file.txt", b'0', "", b"x"));
    finds(&tar("link", b'2', "/etc/passwd", b""), "archive-link");
    finds(&tar("link", b'1', "../../x", b""), "archive-link");
    finds(&tar("tty", b'3', "", b""), "archive-device");
}

#[test]
fn bytes_around_an_archive_are_found() {
    let archive = checkpoint(&pickle());
    finds(&[&b"prefix"[..], &archive].concat(), "zip-prefix");
    finds(&[hostile_pickle(), archive.clone()].concat(), "pickle-import");
    finds(&[archive.clone(), b"suffix".to_vec()].concat(), "zip-trailing");
    finds(&[checkpoint(&hostile_pickle()), archive.clone()].concat(), "pickle-import");
    finds(&[archive.clone(), checkpoint(&hostile_pickle())].concat(), "pickle-import");
    finds(&[safetensors(), archive.clone()].concat(), "polyglot");
    finds(&[onnx(), checkpoint(&hostile_pickle())].concat(), "pickle-import");
    let directory = archive.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    finds(&archive[..directory], "zip-directory");
}

#[test]
fn members_that_share_bytes_are_found() {
    let data = pickle();
    let mut archive = zip(&[entry("aa", &data), entry("bb", &data)]);
    // The second member of the directory is pointed at the first.
    let second = archive.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    archive[second + 42..second + 46].fill(0);
    let found = rules(&archive);
    assert!(found.contains(&"zip-overlap".to_owned()) && found.contains(&"zip-name".to_owned()), "{found:?}");
}

#[test]
fn bombs_are_found_and_not_unpacked() {
    finds(&gzip(&vec![0; 64 << 20]), "unpack-bomb");
    clean(&gzip(&vec![0; 1 << 20]));
}

#[test]
fn arrays_of_objects_are_scanned() {
    let array = |descr: &str, shape: &str, data: &[u8]| {
        let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n");
        [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
    };
    clean(&array("'<f8'", "(2,)", &[0; 16]));
    clean(&array("'|O'", "(1,)", &pickle()));
    clean(&array("'<U5'", "(1,)", b"O\0\0\0b\0\0\0j\0\0\0\0\0\0\0\0\0\0\0"));
    finds(&array("'|O'", "(1,)", &hostile_pickle()), "pickle-import");
    finds(&array("[('a', '<f8'), ('b', [('c', '|O')])]", "(1,)", &hostile_pickle()), "pickle-import");
    finds(&array("'<f8'", "(4294967296, 4294967296)", &[]), "numpy-size-bomb");
    finds(&zip(&[entry("arr_0", &array("'|O8'", "(1,)", &hostile_pickle()))]), "pickle-import");
}

#[test]
fn programs_are_found_and_words_are_not() {
    let mut windows = vec![0; 0x44];
    windows[..2].copy_from_slice(b"MZ");
    windows[0x3c] = 0x40;
    windows[0x40..].copy_from_slice(b"PE\0\0");
    for program in [
        &b"\x7fELF\x02\x01\x01\0"[..],
        &windows,
        b"MZqFpD='\n",
        b"\xcf\xfa\xed\xfe\x07\0\0\x01",
        b"\xca\xfe\xba\xbe\0\0\0\x02",
        b"\0asm\x01\0\0\0",
        b"#!/bin/sh\necho nope\n",
        b"#! /usr/bin/env python\n",
    ] {
        finds(program, "executable");
    }
    clean(b"MZ is how some texts begin\n");
    clean(b"#!important note\n");
    clean(b"# heading\n");
}
