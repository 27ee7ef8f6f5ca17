//! The scanner: what a file is, and whether it attacks its reader.
//!
//! Files are told apart by content, never by name. Every parser here is written for hostile
//! input: it reads slices, checks every length against what is left, and has limits on depth,
//! work and memory. What cannot be parsed is a finding, not a clean file.

mod archive;
mod context;
mod document;
mod executable;
mod format;
pub(crate) mod gguf;
mod inflate;
mod location;
mod metadata;
mod numpy;
mod onnx;
mod pickle;
mod protobuf;
mod safetensors;
mod template;
mod zip;

use std::path::{Path, PathBuf};

use bms_wire::{Code, Error, Result, limits};

use crate::{Finding, Severity, folder};
pub(crate) use context::Context;
pub use format::Format;
pub(crate) use format::identify;

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
    let format = inspect(bytes, &mut context);
    Scanned {
        path: path.to_owned(),
        format,
        size_bytes: bytes.len() as u64,
        findings: context.into_findings(),
    }
}

/// Scans a file, or every file under a folder, sorted by path.
///
/// # Errors
/// [`Code::NotFound`], [`Code::Io`], [`Code::TooLarge`]; [`Code::InvalidBundle`] on links and
/// special files inside a folder.
pub fn scan_path(path: &Path) -> Result<Vec<Scanned>> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::io("scan", path, e))?;
    if metadata.is_dir() {
        let mut list = Vec::new();
        for (name, file) in folder::list(path)? {
            let bytes = folder::read_file(&file, limits::BUNDLE_BYTES_MAX)?;
            list.push(scan_file(&name, &bytes));
        }
        return Ok(list);
    }
    if !metadata.is_file() {
        return Err(Error::new(Code::InvalidBundle, format!("`{}` is a special file", path.display())));
    }
    let real: PathBuf = path.canonicalize().map_err(|e| Error::io("scan", path, e))?;
    let bytes = folder::read_file(&real, limits::BUNDLE_BYTES_MAX)?;
    Ok(vec![scan_file(&path.display().to_string(), &bytes)])
}

/// Identifies a file or archive member and runs the scanner of its format.
pub(crate) fn inspect(bytes: &[u8], context: &mut Context) -> Format {
    let format = format::identify(bytes);
    match format {
        Format::Executable => executable::scan(bytes, context),
        Format::Onnx => onnx::scan(bytes, context),
        Format::Safetensors => safetensors::scan(bytes, context),
        Format::Gguf => gguf::scan(bytes, context),
        Format::Pickle => pickle::scan(bytes, context),
        Format::Numpy => numpy::scan(bytes, context),
        Format::Zip => zip::scan(bytes, context),
        Format::Archive => archive::scan(bytes, context),
        Format::Json => document::json(bytes, context),
        Format::Svg => document::svg(bytes, context),
        Format::Text => document::text(bytes, context),
        Format::Png | Format::Jpeg | Format::Hdf5 | Format::Empty | Format::Unknown => {}
    }
    // Two formats in one file: the loader may take the other one.
    if format != Format::Zip && zip::is_at_end(bytes) {
        let message = format!("{format} is also a ZIP archive");
        context.attack("polyglot", Severity::High, "", message);
        context.inside("archive", |context| zip::scan(bytes, context));
    }
    format
}
