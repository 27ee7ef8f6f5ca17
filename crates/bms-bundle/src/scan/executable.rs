//! Programs and scripts: nothing a model needs, everything an attacker wants.

use crate::Severity;
use crate::scan::Context;

/// What kind of program `bytes` begin with.
pub(crate) fn kind(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x7f, b'E', b'L', b'F', ..] => Some("an ELF program"),
        // "Actually portable" programs begin like DOS and a shell script at once.
        [b'M', b'Z', b'q', b'F', b'p', b'D', ..] => Some("an APE program"),
        [b'M', b'Z', ..] if is_portable_executable(bytes) => Some("a Windows program"),
        [0xfe, 0xed, 0xfa, 0xce | 0xcf, ..] | [0xce | 0xcf, 0xfa, 0xed, 0xfe, ..] => Some("a Mach-O program"),
        // Java classes share the magic; their version is above any number of architectures.
        [0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, count, ..] if *count < 20 => Some("a Mach-O program"),
        [0xca, 0xfe, 0xba, 0xbe, _, _, _, _, ..] => Some("a Java class"),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Some("a WebAssembly program"),
        [b'd', b'e', b'x', b'\n', _, _, _, 0, ..] => Some("an Android program"),
        // The version of the byte code, flags, a time and a length or a digest, then a code object.
        [_, 0x0c..=0x0e, b'\r', b'\n', 0..=3, 0, 0, 0, ..] if matches!(bytes.get(16), Some(0xe3 | 0x63)) => {
            Some("compiled Python")
        }
        [b'#', b'!', rest @ ..] if is_interpreter(rest) => Some("a script"),
        _ => None,
    }
}

/// Reports the program.
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    let what = kind(bytes).unwrap_or("a program");
    context.attack("executable", Severity::Critical, "", format!("{what} stands where a model is expected"));
}

/// `MZ` alone is two letters; the header it points to makes it a program.
fn is_portable_executable(bytes: &[u8]) -> bool {
    let Some(offset) = bytes.get(0x3c..0x40) else { return false };
    let offset = u32::from_le_bytes([offset[0], offset[1], offset[2], offset[3]]) as usize;
    bytes.get(offset..).is_some_and(|header| header.starts_with(b"PE\0\0") || header.starts_with(b"NE"))
}

/// `#!` and a path or a word on the first line.
fn is_interpreter(rest: &[u8]) -> bool {
    let line = rest.split(|&c| c == b'\n').next().unwrap_or_default();
    let line = line.trim_ascii();
    line.starts_with(b"/") || line.starts_with(b"env ")
}
