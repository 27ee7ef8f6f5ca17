//! The scanner: what a file is, and whether it attacks its reader.
//!
//! Files are told apart by content, never by name. Every parser here is written for hostile
//! input: it reads slices, checks every length against what is left, and has limits on depth,
//! work and memory. What cannot be parsed is a finding, not a clean file.

mod archive;
mod blob;
mod context;
mod coreml;
mod document;
mod executable;
mod facts;
mod format;
pub(crate) mod gguf;
mod hdf5;
mod inflate;
mod keras;
mod location;
mod metadata;
mod msgpack;
mod names;
mod numpy;
mod onnx;
mod pickle;
mod protobuf;
mod rds;
mod rules;
mod safetensors;
mod sevenz;
mod tar;
mod target;
mod template;
mod tensorflow;
mod tflite;
mod xml;
mod zip;

use std::ops::Range;

use crate::{Finding, Severity};
pub(crate) use context::Context;
pub use facts::Facts;
pub use format::Format;
pub(crate) use format::identify;
pub use rules::{RULES, Rule};
pub use target::{Target, targets};

/// What a scan says about one file.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// Where the file is, as the caller named it.
    pub path: String,
    /// What it is.
    pub format: Format,
    /// Its size.
    pub size_bytes: u64,
    /// What was found, in the order of the file.
    pub findings: Vec<Finding>,
}

/// Scans a file in memory. `path` is used for locations only.
pub fn scan_bytes(path: &str, bytes: &[u8]) -> Vec<Finding> {
    scan_file(path, bytes).findings
}

/// As [`scan_bytes`], and says what the file is.
pub fn scan_file(path: &str, bytes: &[u8]) -> Scanned {
    let mut context = Context::new(path);
    let format = inspect_named(path, bytes, &mut context);
    Scanned {
        path: path.to_owned(),
        format,
        size_bytes: bytes.len() as u64,
        findings: context.into_findings(),
    }
}

/// As [`inspect`], and compares the content with what the name says.
pub(crate) fn inspect_named(name: &str, bytes: &[u8], context: &mut Context) -> Format {
    let format = inspect(bytes, context);
    names::judge(name, format, bytes, context);
    if format == Format::Text && name.to_ascii_lowercase().ends_with(".jinja") {
        template::scan(name, &String::from_utf8_lossy(bytes), context);
    }
    format
}

/// Identifies a file or archive member and runs the scanner of its format.
pub(crate) fn inspect(bytes: &[u8], context: &mut Context) -> Format {
    let format = inspect_alone(bytes, context);
    // Two formats in one file: the loader may take the other one.
    let is_appended = |place: &Range<u64>| format != Format::Archive || !tar::is_member(bytes, place);
    if !matches!(format, Format::Zip | Format::TfLite)
        && zip::at_end(bytes).is_some_and(|place| is_appended(&place))
    {
        let message = format!("{format} is also a ZIP archive");
        context.attack("polyglot", Severity::High, "", message);
        context.inside("archive", |context| zip::scan(bytes, context));
    }
    if format != Format::Hdf5 && hdf5::begin(bytes).is_some() {
        let message = format!("{format} is also an HDF5 file");
        context.attack("polyglot", Severity::High, "", message);
        context.inside("HDF5", |context| hdf5::scan(bytes, context));
    }
    format
}

/// As [`inspect`] for bytes that end where another file begins.
pub(crate) fn inspect_alone(bytes: &[u8], context: &mut Context) -> Format {
    let format = format::identify(bytes);
    match format {
        Format::Executable => executable::scan(bytes, context),
        Format::Onnx => onnx::scan(bytes, context),
        Format::Safetensors => safetensors::scan(bytes, context),
        Format::Gguf => gguf::scan(bytes, context),
        Format::Pickle => pickle::scan(bytes, context),
        Format::Numpy => numpy::scan(bytes, context),
        Format::Zip => zip::scan(bytes, context),
        Format::Archive | Format::SevenZip => archive::scan(bytes, context),
        Format::Json => document::json(bytes, context),
        Format::Svg => document::svg(bytes, context),
        Format::Text => document::text(bytes, context),
        Format::Hdf5 => hdf5::scan(bytes, context),
        Format::TensorFlow => tensorflow::scan(bytes, context),
        Format::TfLite => tflite::scan(bytes, context),
        Format::CoreMl => coreml::scan(bytes, context),
        Format::MessagePack => msgpack::scan(bytes, context),
        Format::Rds => rds::scan(bytes, context),
        // In archives raw numbers are the rule, and members are read from their beginning.
        Format::Unknown if context.is_outermost() => pickle::scan_hidden(bytes, context),
        Format::Png | Format::Jpeg | Format::Empty | Format::Unknown => {}
    }
    // What begins like a text may go on as something else.
    if format.holds_numbers() || format == Format::Text {
        blob::scan(bytes, context);
    }
    format
}
