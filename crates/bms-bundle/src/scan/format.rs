//! Telling formats apart by content.

use serde::{Deserialize, Serialize};

use crate::json::without_odd_numbers;
use crate::scan::{
    archive, coreml, executable, hdf5, msgpack, onnx, pickle, rds, safetensors, tar, tensorflow, tflite, zip,
};

/// What a file is, by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Format {
    /// An ONNX graph.
    Onnx,
    /// Safetensors weights.
    Safetensors,
    /// A GGUF model.
    Gguf,
    /// A JSON document.
    Json,
    /// Text, such as CSV or Markdown.
    Text,
    /// An SVG picture.
    Svg,
    /// A PNG picture.
    Png,
    /// A JPEG picture.
    Jpeg,
    /// A Python pickle, which is a program.
    Pickle,
    /// A ZIP archive, such as a torch checkpoint.
    Zip,
    /// Another archive or compressed file.
    Archive,
    /// A NumPy array.
    Numpy,
    /// An HDF5 file.
    Hdf5,
    /// A TensorFlow graph or SavedModel.
    #[serde(rename = "tensorflow")]
    TensorFlow,
    /// A TFLite model.
    #[serde(rename = "tflite")]
    TfLite,
    /// A Core ML model.
    #[serde(rename = "coreml")]
    CoreMl,
    /// A MessagePack document, such as a Flax checkpoint.
    #[serde(rename = "msgpack")]
    MessagePack,
    /// A serialised R object.
    Rds,
    /// A 7z archive.
    #[serde(rename = "7z")]
    SevenZip,
    /// A program or script.
    Executable,
    /// Nothing.
    Empty,
    /// Something else.
    Unknown,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Format::Onnx => "an ONNX graph",
            Format::Safetensors => "safetensors weights",
            Format::Gguf => "a GGUF model",
            Format::Json => "JSON",
            Format::Text => "text",
            Format::Svg => "an SVG picture",
            Format::Png => "a PNG picture",
            Format::Jpeg => "a JPEG picture",
            Format::Pickle => "a Python pickle",
            Format::Zip => "a ZIP archive",
            Format::Archive => "an archive",
            Format::Numpy => "a NumPy array",
            Format::Hdf5 => "an HDF5 file",
            Format::TensorFlow => "a TensorFlow graph",
            Format::TfLite => "a TFLite model",
            Format::CoreMl => "a Core ML model",
            Format::MessagePack => "a MessagePack document",
            Format::Rds => "an R object",
            Format::SevenZip => "a 7z archive",
            Format::Executable => "a program",
            Format::Empty => "an empty file",
            Format::Unknown => "of an unknown format",
        })
    }
}

/// Says what `bytes` are.
pub(crate) fn identify(bytes: &[u8]) -> Format {
    if bytes.is_empty() {
        return Format::Empty;
    }
    if executable::kind(bytes).is_some() {
        return Format::Executable;
    }
    if let Some(format) = by_magic(bytes) {
        return format;
    }
    if is_text(bytes) {
        return text(bytes);
    }
    binary(bytes)
}

/// Formats that say what they are in their first bytes.
fn by_magic(bytes: &[u8]) -> Option<Format> {
    const MAGIC: &[(&[u8], Format)] = &[
        (b"GGUF", Format::Gguf),
        (b"\x89PNG\r\n\x1a\n", Format::Png),
        (b"\xff\xd8\xff", Format::Jpeg),
        (b"PK\x03\x04", Format::Zip),
        (b"PK\x05\x06", Format::Zip),
        (b"PK\x01\x02", Format::Zip),
        (b"PK\x07\x08", Format::Zip),
        (b"\x93NUMPY", Format::Numpy),
        (b"\x89HDF\r\n\x1a\n", Format::Hdf5),
        (b"\x1f\x8b\x08", Format::Archive),
        (b"7z\xbc\xaf\x27\x1c", Format::SevenZip),
        (b"BZh", Format::Archive),
        (b"\xfd7zXZ\0", Format::Archive),
        (b"\x28\xb5\x2f\xfd", Format::Archive),
        (b"\x04\x22\x4d\x18", Format::Archive),
        (b"Rar!\x1a\x07", Format::Archive),
        (b"\x1f\x9d", Format::Archive),
        (b"LZIP\x01", Format::Archive),
        (b"MSCF\0\0\0\0", Format::Archive),
        (b"070701", Format::Archive),
        (b"!<arch>\n", Format::Archive),
        (b"ZF0x", Format::Archive),
    ];
    if let Some((_, format)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(*format);
    }
    let skippable = matches!(bytes, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    if tar::is_tar(bytes) || archive::is_zlib(bytes) || archive::is_lzma(bytes) || skippable {
        return Some(Format::Archive);
    }
    if rds::is_object(bytes) {
        return Some(Format::Rds);
    }
    if tflite::is_model(bytes) {
        return Some(Format::TfLite);
    }
    // Before text: the oldest pickles are made of lines.
    pickle::is_pickle(bytes).then_some(Format::Pickle)
}

/// Whether it is UTF-8 without the control characters that no text holds.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    let control = |c: &u8| *c < 0x20 && !matches!(c, b'\t' | b'\n' | b'\r' | 0x0c);
    !bytes.iter().any(control) && std::str::from_utf8(bytes).is_ok()
}

fn text(bytes: &[u8]) -> Format {
    let start = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    match start.first() {
        Some(b'{' | b'[') if is_json(start) => Format::Json,
        Some(b'<') if root_element(start).starts_with(b"<svg") => Format::Svg,
        _ => Format::Text,
    }
}

/// Whether it is JSON, as the standard or as Python has it.
fn is_json(text: &[u8]) -> bool {
    let valid = |bytes: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
    valid(text) || without_odd_numbers(text).is_some_and(|plain| valid(&plain))
}

/// An XML document from its root element on: declarations and comments are skipped.
fn root_element(document: &[u8]) -> &[u8] {
    let mut left = document;
    loop {
        left = left.trim_ascii_start();
        let end: &[u8] = match left {
            [b'<', b'!', b'-', b'-', ..] => b"-->",
            [b'<', b'!', ..] if doctype_has_subset(left) => b"]>",
            [b'<', b'?' | b'!', ..] => b">",
            _ => return left,
        };
        let Some(at) = left.windows(end.len()).position(|window| window == end) else { return &[] };
        left = &left[at + end.len()..];
    }
}

/// Whether a declaration holds declarations of its own, in brackets.
fn doctype_has_subset(declaration: &[u8]) -> bool {
    declaration.iter().find(|c| matches!(c, b'[' | b'>')) == Some(&b'[')
}

/// Formats without a magic number.
fn binary(bytes: &[u8]) -> Format {
    if safetensors::is_safetensors(bytes) {
        return Format::Safetensors;
    }
    if onnx::is_model(bytes) {
        return Format::Onnx;
    }
    if coreml::is_model(bytes) {
        return Format::CoreMl;
    }
    if tensorflow::is_graph(bytes) {
        return Format::TensorFlow;
    }
    if zip::at_end(bytes).is_some() {
        return Format::Zip;
    }
    if hdf5::begin(bytes).is_some() {
        return Format::Hdf5;
    }
    match msgpack::is_document(bytes) {
        true => Format::MessagePack,
        false => Format::Unknown,
    }
}

impl Format {
    /// Whether most of it is numbers, between which a program could be hidden.
    pub(crate) fn holds_numbers(self) -> bool {
        matches!(
            self,
            Format::Onnx
                | Format::Safetensors
                | Format::Gguf
                | Format::Pickle
                | Format::Numpy
                | Format::Hdf5
                | Format::TensorFlow
                | Format::TfLite
                | Format::CoreMl
                | Format::MessagePack
                | Format::Rds
                | Format::Unknown
        )
    }
}

/// Whether `needle` occurs in `haystack`.
pub(crate) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}
