//! What a file's name says about its content, and whether that is true: loaders choose by name, scanners that
//! trust it can be sent the wrong way.

use crate::Severity;
use crate::scan::{Context, Format};

/// Extensions of programs and of source that an interpreter or a loader runs.
const CODE: [&str; 20] = [
    "bat", "class", "cmd", "com", "dll", "dylib", "egg", "exe", "jar", "msi", "ps1", "py", "pyc", "pyd",
    "pyw", "scr", "so", "vbs", "wasm", "whl",
];

/// What files of an extension are; empty when it promises nothing that is checked.
fn promised(extension: &str) -> &'static [Format] {
    match extension {
        "safetensors" => &[Format::Safetensors],
        "gguf" => &[Format::Gguf],
        "onnx" => &[Format::Onnx],
        "npy" => &[Format::Numpy],
        "npz" | "zip" | "mar" => &[Format::Zip],
        // Keras 2 wrote HDF5 under this name.
        "keras" => &[Format::Zip, Format::Hdf5],
        "h5" | "hdf5" => &[Format::Hdf5],
        "tflite" => &[Format::TfLite],
        "7z" => &[Format::SevenZip],
        "tar" | "gz" | "tgz" | "bz2" | "xz" | "zst" | "lz4" => &[Format::Archive],
        "png" => &[Format::Png],
        "jpg" | "jpeg" => &[Format::Jpeg],
        "json" => &[Format::Json],
        _ => &[],
    }
}

/// Judges the name of a file that is of this format.
pub(crate) fn judge(name: &str, format: Format, bytes: &[u8], context: &mut Context) {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let Some((stem, extension)) = file.rsplit_once('.') else { return };
    let extension = extension.to_ascii_lowercase();
    // What is reported as a program already needs no second finding, nor does nothing.
    if matches!(format, Format::Executable | Format::Empty) {
        return;
    }
    if CODE.contains(&&*extension) && !stem.is_empty() {
        let message =
            format!("the file is code by its name (.{extension}), which a loader can be told to run");
        context.attack("code-file", Severity::High, "", message);
    }
    let promised = promised(&extension);
    if promised.is_empty() || promised.contains(&format) {
        return disguised(&extension, format, context);
    }
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return context.malformed(
            "lfs-pointer",
            "",
            "the file stands for one that was not downloaded from Git LFS",
        );
    }
    // What is of no known format may be a newer version, cut short, or meant for another reader of that extension.
    let severity = match format {
        Format::Pickle | Format::Zip | Format::Archive | Format::Hdf5 => Severity::High,
        Format::Unknown
            if matches!(&*extension, "safetensors" | "gguf" | "npy" | "npz" | "keras" | "h5" | "hdf5") =>
        {
            Severity::Medium
        }
        Format::Unknown | Format::Text | Format::Json
            if extension != "safetensors" && extension != "gguf" =>
        {
            Severity::Low
        }
        _ => Severity::Medium,
    };
    let message = format!("the file is {format}, not what its name (.{extension}) says");
    match severity {
        Severity::Low => context.note("extension-mismatch", severity, "", message),
        _ => context.attack("extension-mismatch", severity, "", message),
    }
}

/// Archives that no loader of these extensions reads: packed so that scanners do not look into them.
fn disguised(extension: &str, format: Format, context: &mut Context) {
    let checkpoint =
        matches!(extension, "pt" | "pth" | "bin" | "ckpt" | "pkl" | "pickle" | "model" | "pdparams" | "pb");
    if checkpoint && format == Format::SevenZip {
        let message = format!("an archive that no loader reads is named .{extension}");
        context.attack("extension-mismatch", Severity::High, "", message);
    }
}
