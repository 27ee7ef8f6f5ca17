//! The ends of files as numbers.

use bms_nn::{Data, Tensor};
use bms_wire::{BytesInput, Code, Error, Result};

/// What Python's `bytes.strip` takes for white space.
fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// `[files, head + tail]`: Magika's features, see `_extract_features_from_seekable` in its Python package.
pub(super) fn tensor(pipeline: &BytesInput, files: &[Vec<u8>]) -> Result<Tensor> {
    let width = pipeline.head + pipeline.tail;
    super::check_count(files.len(), width)?;
    let mut values = Vec::with_capacity(files.len() * width);
    for (index, file) in files.iter().enumerate() {
        if file.len() < pipeline.bytes_min {
            let what =
                format!("file {index} has {} bytes, the model takes {}", file.len(), pipeline.bytes_min);
            return Err(Error::new(Code::InvalidInput, what).hint("Too little of a file says nothing."));
        }
        features(pipeline, file, &mut values);
    }
    Tensor::new(vec![files.len(), width], Data::I32(values))
}

fn features(pipeline: &BytesInput, file: &[u8], values: &mut Vec<i32>) {
    let block = pipeline.block.min(file.len());
    let (first, last) = (&file[..block], &file[file.len() - block..]);
    let head =
        first.iter().skip_while(|byte| is_space(byte)).take(pipeline.head).map(|&byte| i32::from(byte));
    let before = values.len();
    values.extend(head);
    values.resize(before + pipeline.head, pipeline.pad);
    let end = last.len() - last.iter().rev().take_while(|byte| is_space(byte)).count();
    let tail = &last[end - pipeline.tail.min(end)..end];
    values.resize(values.len() + pipeline.tail - tail.len(), pipeline.pad);
    values.extend(tail.iter().map(|&byte| i32::from(byte)));
}

#[cfg(test)]
mod tests;
