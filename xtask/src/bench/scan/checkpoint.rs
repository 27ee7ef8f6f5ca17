//! A large benign torch checkpoint, made without torch.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Result;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Bytes of one tensor.
const TENSOR_BYTES: usize = 8 << 20;

/// Writes a state dictionary of float tensors that have `bytes` bytes together.
pub(super) fn write(path: &Path, bytes: usize) -> Result<()> {
    let tensors = bytes / TENSOR_BYTES;
    let mut archive = ZipWriter::new(BufWriter::new(File::create(path)?));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.start_file("checkpoint/data.pkl", options)?;
    archive.write_all(&state(tensors))?;
    archive.start_file("checkpoint/byteorder", options)?;
    archive.write_all(b"little")?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for tensor in 0..tensors {
        archive.start_file(format!("checkpoint/data/{tensor}"), options)?;
        archive.write_all(&random.floats(TENSOR_BYTES / 4))?;
    }
    archive.start_file("checkpoint/version", options)?;
    archive.write_all(b"3\n")?;
    archive.finish()?.flush()?;
    Ok(())
}

/// The pickle, protocol 2, as `torch.save` writes it.
fn state(tensors: usize) -> Vec<u8> {
    let text = |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let int = |value: usize| [&b"J"[..], &(value as u32).to_le_bytes()].concat();
    let mut out = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    let values = TENSOR_BYTES / 4;
    for tensor in 0..tensors {
        out.extend(text(&format!("layers.{tensor}.weight")));
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        out.extend(
            [
                text("storage"),
                b"ctorch\nFloatStorage\n".to_vec(),
                text(&tensor.to_string()),
                text("cpu"),
                int(values),
            ]
            .concat(),
        );
        out.extend(b"tQK\0");
        out.extend([int(values), b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR".to_vec()].concat());
    }
    out.extend(b"u.");
    out
}

/// Xorshift: numbers like weights, the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn floats(&mut self, count: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 * count);
        for _ in 0..count {
            // The sum of four uniform numbers is near enough to a normal one.
            let sum = self
                .next()
                .to_le_bytes()
                .chunks(2)
                .map(|pair| f32::from(u16::from_le_bytes([pair[0], pair[1]])))
                .sum::<f32>();
            out.extend(((sum / 65_536.0 - 2.0) * 0.05).to_le_bytes());
        }
        out
    }
}
