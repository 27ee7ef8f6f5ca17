//! TFLite models: FlatBuffers whose custom operators may be any of TensorFlow's.
//!
//! Source: `tensorflow/lite/schema/schema.fbs` (version 3) and the FlatBuffers binary format.

use crate::Severity;
use crate::scan::context::{Context, quote};
use crate::scan::{inspect, tensorflow, zip};

/// Entries of one vector that are looked at.
const ENTRIES_MAX: usize = 1 << 20;
/// Custom operators that interpreters in use bring themselves, by the beginning of their names.
const KNOWN: [&str; 24] = [
    "TFLite_Detection_PostProcess",
    "Mfcc",
    "AudioSpectrogram",
    "AudioMicrofrontend",
    "SignalFft",
    "Signal",
    "NumericVerify",
    "Convolution2DTransposeBias",
    "MaxPoolingWithArgmax2D",
    "MaxUnpooling2D",
    "TransformLandmarks",
    "TransformTensorBilinear",
    "Landmarks2TransformMatrix",
    "edgetpu-custom-op",
    "ethos-u",
    "RandomStandardNormal",
    "RandomUniform",
    "Multinomial",
    "aeq.",
    "odml.",
    "tftext:",
    "TFSentencepieceTokenizeOp",
    "stablehlo.",
    "DILATE",
];

/// Whether it has the identifier.
pub(crate) fn is_model(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(b"TFL3")
}

/// Scans a file that [`is_model`].
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    let buffer = Buffer { bytes };
    if model(&buffer, context).is_none() {
        context.malformed("tflite-malformed", "", "the TFLite model's tables cannot be read");
    }
    // Labels and the like are packed behind the model; tools read both.
    if zip::at_end(bytes).is_some() {
        context.inside("associated files", |context| zip::scan_appended(bytes, context));
    }
}

fn model(buffer: &Buffer<'_>, context: &mut Context) -> Option<()> {
    let root = buffer.follow(0)?;
    for code in buffer.tables(root, 1)? {
        let Some(name) = buffer.text(code, 1) else { continue };
        let name = String::from_utf8_lossy(name?).into_owned();
        operator(&name, context);
    }
    for entry in buffer.tables(root, 4)? {
        if context.is_full() {
            return Some(());
        }
        // Data in the buffer, or behind the model by offset and size.
        if let Some(data) = buffer.text(entry, 0) {
            let data = data?;
            if matches!(data, [0x80, 2..=5, ..] | [b'P', b'K', 3, 4, ..]) {
                context.inside("buffer", |context| inspect(data, context));
            }
        }
        let (offset, size) = (buffer.long(entry, 1), buffer.long(entry, 2));
        if let (Some(offset), Some(size)) = (offset, size)
            && offset.checked_add(size).is_none_or(|end| (buffer.bytes.len() as u64) < end)
        {
            context.malformed("tflite-truncated", "", "a buffer lies beyond the end of the file");
        }
    }
    Some(())
}

fn operator(name: &str, context: &mut Context) {
    let place = format!("operator {}", quote(name));
    if let Some(inner) = name.strip_prefix("Flex") {
        match tensorflow::judge_operator(inner, |_| None) {
            Some((rule, severity, message)) if Severity::Medium <= severity => {
                context.attack(rule, severity, &place, message);
            }
            _ => {
                let message = "the model needs TensorFlow's own operators";
                context.note("tflite-flex", Severity::Low, &place, message);
            }
        }
    } else if !KNOWN.iter().any(|known| name.starts_with(known)) {
        let message = format!("the operator {} needs a library from outside", quote(name));
        context.attack("tflite-custom-operator", Severity::Medium, &place, message);
    }
}

/// A FlatBuffer, every access checked.
struct Buffer<'a> {
    bytes: &'a [u8],
}

impl<'a> Buffer<'a> {
    fn u16(&self, at: usize) -> Option<usize> {
        let field = self.bytes.get(at..at.checked_add(2)?)?;
        Some(usize::from(u16::from_le_bytes([field[0], field[1]])))
    }

    fn u32(&self, at: usize) -> Option<usize> {
        let field = self.bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes([field[0], field[1], field[2], field[3]]) as usize)
    }

    /// Where the offset at `at` leads.
    fn follow(&self, at: usize) -> Option<usize> {
        at.checked_add(self.u32(at)?).filter(|at| *at < self.bytes.len())
    }

    /// Where a field of a table lies; `None` when the table has it not.
    fn field(&self, table: usize, index: usize) -> Option<usize> {
        let back = self.u32(table)? as u32 as i32;
        let vtable = usize::try_from(i64::try_from(table).ok()? - i64::from(back)).ok()?;
        let entry = 4 + 2 * index;
        if self.u16(vtable)? < entry + 2 {
            return None;
        }
        match self.u16(vtable + entry)? {
            0 => None,
            offset => table.checked_add(offset),
        }
    }

    /// The tables of a vector; none when the field is not there, `None` when it cannot be read.
    fn tables(&self, table: usize, index: usize) -> Option<Vec<usize>> {
        let Some(field) = self.field(table, index) else { return Some(Vec::new()) };
        let vector = self.follow(field)?;
        let length = self.u32(vector)?;
        if ENTRIES_MAX < length || self.bytes.len() / 4 < length {
            return None;
        }
        (0..length).map(|index| self.follow(vector + 4 + 4 * index)).collect()
    }

    /// The bytes of a text or byte vector; the inner `None` when they cannot be read.
    #[allow(clippy::option_option)]
    fn text(&self, table: usize, index: usize) -> Option<Option<&'a [u8]>> {
        let field = self.field(table, index)?;
        Some(self.follow(field).and_then(|vector| {
            let from = vector.checked_add(4)?;
            self.bytes.get(from..from.checked_add(self.u32(vector)?)?)
        }))
    }

    fn long(&self, table: usize, index: usize) -> Option<u64> {
        let at = self.field(table, index)?;
        Some(u64::from_le_bytes(self.bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
    }
}
