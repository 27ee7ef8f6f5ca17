//! The scanner on compressed files and archives other than ZIP.

use std::io::Write;

use flate2::Compression;

use crate::samples::{clean, entry, finds, hostile_pickle, pickle, zip};

/// The hostile pickle, packed by Python's `lzma`, `zstandard` and `py7zr`.
const XZ: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a301001d8002636f730a73797374656d0a58090000006563686f206e6f706585522e000000ff5a6d0c4051ab880001361e3d1995531fb6f37d010000000004595a";
const LZMA: &str = "5d00008000ffffffffffffffff0040008803bc30bd34de2f5e26d069fb368fad86ef9c16627b3796895c2a40e1a148497fffef038000";
const ZSTD: &str = "28b52ffd201ef100008002636f730a73797374656d0a58090000006563686f206e6f706585522e";
const SEVEN: &str = "377abcaf271c0004ccd5c6758c0000000000000014000000000000003de775ae01001d8002636f730a73797374656d0a58090000006563686f206e6f706585522e00e0006600625d0000813307ae0fd02cf4bc9f39109c6f1502b9c314c71d86d459f026be62b1ddbe245bfef9aac3a5fea4a419e93b985cc070011a288b794581500ec11d69da06c67b8439d791e8a73e944fba3d11429e1f4fb00e0cde634280f7372a81c2b8230000000017062201096a00070b010001212101180c670000";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar of one member, with the checksum right.
fn tar(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[148..156].fill(b' ');
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut out = [header, content.to_vec()].concat();
    out.resize(out.len().next_multiple_of(512) + 1024, 0);
    out
}

/// A 7z archive of one stored member.
fn seven(name: &str, content: &[u8]) -> Vec<u8> {
    let size = content.len() as u8;
    let wide: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let streams = [&[6, 0, 1, 9, size, 0][..], &[7, 0x0b, 1, 0, 1, 1, 0, 0x0c, size, 0], &[0]].concat();
    let names = [&[0x11, wide.len() as u8 + 1, 0][..], &wide].concat();
    let header = [&[1, 4][..], &streams, &[5, 1], &names, &[0, 0]].concat();
    let mut out = b"7z\xbc\xaf\x27\x1c\0\x04\0\0\0\0".to_vec();
    out.extend((content.len() as u64).to_le_bytes());
    out.extend((header.len() as u64).to_le_bytes());
    out.extend([0; 4]);
    [out, content.to_vec(), header].concat()
}

/// One of each, to be damaged.
pub(crate) fn samples() -> Vec<Vec<u8>> {
    vec![
        bzip2(&pickle()),
        hex::decode(XZ).unwrap(),
        hex::decode(LZMA).unwrap(),
        hex::decode(ZSTD).unwrap(),
        hex::decode(SEVEN).unwrap(),
        seven("weights", &pickle()),
        tar("weights", b'0', &pickle()),
    ]
}

#[test]
fn every_compression_is_looked_into() {
    for packed in [
        gzip(&hostile_pickle()),
        zlib(&hostile_pickle()),
        bzip2(&hostile_pickle()),
        hex::decode(XZ).unwrap(),
        hex::decode(LZMA).unwrap(),
        hex::decode(ZSTD).unwrap(),
        hex::decode(SEVEN).unwrap(),
        seven("weights", &hostile_pickle()),
        tar("weights", b'0', &hostile_pickle()),
        // Packed in each other.
        gzip(&tar("a", b'0', &zip(&[entry("b", &bzip2(&hostile_pickle()))]))),
        zip(&[entry("a", &zip(&[entry("b", &zip(&[entry("c", &hostile_pickle())]))]))]),
        [gzip(&pickle()), gzip(&hostile_pickle())].concat(),
        [bzip2(&pickle()), bzip2(&hostile_pickle())].concat(),
        [hex::decode(ZSTD).unwrap(), hex::decode(ZSTD).unwrap()].concat(),
        // A skippable frame before the stream.
        [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2][..], &hex::decode(ZSTD).unwrap()].concat(),
        // joblib before 0.10: magic and length before the stream.
        [format!("ZF{:<19}", "0x1e").into_bytes(), zlib(&hostile_pickle())].concat(),
    ] {
        finds(&packed, "pickle-import");
    }
}

#[test]
fn benign_archives_are_clean() {
    for packed in [
        gzip(&pickle()),
        zlib(&pickle()),
        bzip2(&pickle()),
        seven("weights", &pickle()),
        tar("weights", b'0', &pickle()),
        gzip(&tar("a", b'0', &zip(&[entry("b", &pickle())]))),
    ] {
        clean(&packed);
    }
}

#[test]
fn what_cannot_be_unpacked_is_no_clean_file() {
    finds(b"Rar!\x1a\x07\x01\x00 whatever follows", "archive-unread");
    finds(&gzip(&pickle())[..20], "archive-truncated");
    finds(&bzip2(&pickle())[..30], "archive-truncated");
    finds(&hex::decode(SEVEN).unwrap()[..120], "archive-truncated");
    finds(&[zlib(&pickle()), hostile_pickle()].concat(), "archive-trailing");
    finds(&[zlib(&pickle()), hostile_pickle()].concat(), "pickle-import");
    finds(&[seven("a", &pickle()), hostile_pickle()].concat(), "archive-trailing");
    finds(&[tar("a", b'0', &pickle()), hostile_pickle()].concat(), "tar-trailing");
    let mut encrypted = seven("a", &pickle());
    let coder = encrypted.windows(4).position(|window| window == [1, 0, 1, 1]).unwrap();
    encrypted[coder + 4] = 6;
    finds(&encrypted, "archive-unread");
}

#[test]
fn bombs_are_stopped_early() {
    finds(&gzip(&vec![0; 64 << 20]), "unpack-bomb");
    finds(&bzip2(&vec![0; 64 << 20]), "unpack-bomb");
}

#[test]
fn members_that_leave_the_folder_are_found() {
    finds(&tar("../x", b'0', b"x"), "archive-path");
    finds(&tar("a", b'3', b""), "archive-device");
    finds(&seven("../../x", b"text"), "archive-path");
    // The name in an extension header wins.
    let long = tar("././@LongLink", b'L', b"../../evil\0");
    finds(&[&long[..1024], &tar("a", b'0', b"x")].concat(), "archive-path");
    let pax = tar("PaxHeader", b'x', b"16 path=../../x\n");
    finds(&[&pax[..1024], &tar("a", b'0', b"x")].concat(), "archive-path");
}
