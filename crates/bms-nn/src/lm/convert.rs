//! Turns a model into a GGUF file in another format: a Hugging Face folder, or a GGUF file.
//!
//! Tensors are read where they lie, changed some rows at a time on several threads, and written in order, so
//! that a model of any size needs the memory of a few rows.

mod metadata;
mod plan;
mod recipe;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use recipe::Recipe;

use std::borrow::Cow;
use std::io::Write;

use bms_kernels::{Format, dequantise_row, quantise_row};
use bms_wire::{Code, Error, Result};

use super::ModelFiles;
use super::gguf::GgufWriter;
use plan::{Part, Plan, Planned};

/// Values changed at once by one thread.
const CHUNK_VALUES: usize = 1 << 18;

/// How a model is converted.
#[derive(Clone, Copy)]
pub struct ConvertOptions<'a> {
    /// How tensors are stored.
    pub recipe: Recipe,
    /// Threads to compute on.
    pub threads: usize,
    /// Whether tensors that are quantised already may be quantised again, which loses more than it seems.
    pub requantise: bool,
    /// Told of bytes of the files that are not read again, so that their memory can be given back.
    pub release: &'a dyn Fn(&[u8]),
}

impl std::fmt::Debug for ConvertOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ConvertOptions { recipe, threads, requantise, release: _ } = self;
        f.debug_struct("ConvertOptions")
            .field("recipe", recipe)
            .field("threads", threads)
            .field("requantise", requantise)
            .finish_non_exhaustive()
    }
}

/// How far a conversion is.
#[derive(Clone, Copy, Debug)]
pub struct ConvertProgress<'a> {
    /// The tensor just written.
    pub tensor: &'a str,
    /// How it is stored.
    pub format: Format,
    /// Tensors written so far.
    pub tensors_done: usize,
    /// Tensors in all.
    pub tensors: usize,
    /// Bytes of tensors written so far.
    pub bytes_done: u64,
    /// Bytes of tensors in all.
    pub bytes: u64,
}

/// What a conversion wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// The architecture, as GGUF names it.
    pub arch: String,
    /// The model's name, when it has one.
    pub name: Option<String>,
    /// Weights, counted.
    pub parameters: u64,
    /// Bytes of tensors read.
    pub bytes_in: u64,
    /// Bytes of tensors written.
    pub bytes_out: u64,
    /// How many tensors each format has, most first.
    pub formats: Vec<(Format, usize)>,
    /// Relative root mean square error of what was quantised: 0.01 is one percent.
    pub error: f64,
}

/// Writes a model to `out`.
///
/// Errors: those of reading the model; [`Code::UnsupportedModel`] for a tokenizer that GGUF cannot hold, and for
/// quantised tensors when they may not be quantised again; [`Code::Io`] and [`Code::StorageFull`] from `out`.
pub fn convert<W: Write>(
    files: &ModelFiles<'_>,
    out: W,
    options: &ConvertOptions<'_>,
    progress: &mut dyn FnMut(ConvertProgress<'_>),
) -> Result<Converted> {
    let Plan { arch, name, pairs, tensors } = plan::plan(files, options)?;
    let entries = tensors.iter().map(Planned::entry).collect();
    let total: u64 = tensors.iter().map(|tensor| tensor.bytes_out() as u64).sum();
    let mut writer = GgufWriter::new(out, &pairs, entries)?;
    let (mut done, mut bytes_in, mut parameters) = (0, 0, 0);
    let mut formats: Vec<(Format, usize)> = Vec::new();
    let mut loss = Loss::default();
    for (index, tensor) in tensors.iter().enumerate() {
        for part in &tensor.parts {
            write_part(&mut writer, tensor, part, options.threads.max(1), &mut loss)?;
            bytes_in += part.bytes.len() as u64;
            parameters += (part.rows * part.cols) as u64;
            if let Cow::Borrowed(bytes) = part.bytes {
                (options.release)(bytes);
            }
        }
        done += tensor.bytes_out() as u64;
        match formats.iter_mut().find(|(format, _)| *format == tensor.format) {
            Some((_, count)) => *count += 1,
            None => formats.push((tensor.format, 1)),
        }
        progress(ConvertProgress {
            tensor: &tensor.name,
            format: tensor.format,
            tensors_done: index + 1,
            tensors: tensors.len(),
            bytes_done: done,
            bytes: total,
        });
    }
    writer.finish()?;
    formats.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let arch = arch.as_str().to_owned();
    Ok(Converted { arch, name, parameters, bytes_in, bytes_out: total, formats, error: loss.relative() })
}

/// Sums of squares of what was quantised.
#[derive(Clone, Copy, Debug, Default)]
struct Loss {
    error: f64,
    signal: f64,
}

impl Loss {
    fn add(&mut self, values: &[f32], stored: &[f32]) {
        for (value, stored) in values.iter().zip(stored) {
            let (value, difference) = (f64::from(*value), f64::from(value - stored));
            self.error += difference * difference;
            self.signal += value * value;
        }
    }

    fn relative(self) -> f64 {
        if self.signal == 0.0 { 0.0 } else { (self.error / self.signal).sqrt() }
    }
}

/// Writes one part of a tensor: as it lies when nothing changes, otherwise a chunk of rows per thread at a time.
fn write_part<W: Write>(
    writer: &mut GgufWriter<W>,
    tensor: &Planned<'_>,
    part: &Part<'_>,
    threads: usize,
    loss: &mut Loss,
) -> Result<()> {
    if part.is_as_it_lies(tensor.format) {
        return writer.write(&part.bytes);
    }
    let per_thread = (CHUNK_VALUES / part.cols).max(1);
    let mut first = 0;
    while first < part.rows {
        let ends = (1..=threads).map(|thread| (first + thread * per_thread).min(part.rows));
        let starts = (0..threads).map(|thread| (first + thread * per_thread).min(part.rows));
        let ranges: Vec<_> = starts.zip(ends).filter(|(start, end)| start < end).collect();
        let chunks: Vec<Result<(Vec<u8>, Loss)>> = std::thread::scope(|scope| {
            let work = |(start, end)| scope.spawn(move || rows(tensor, part, start, end));
            let threads: Vec<_> = ranges.iter().copied().map(work).collect();
            let failed =
                || Error::new(Code::Internal, format!("failed to convert the tensor `{}`", tensor.name));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(failed()))).collect()
        });
        for chunk in chunks {
            let (bytes, part_loss) = chunk?;
            writer.write(&bytes)?;
            loss.error += part_loss.error;
            loss.signal += part_loss.signal;
        }
        first = ranges.last().map_or(part.rows, |(_, end)| *end);
    }
    Ok(())
}

/// Some rows in the new format.
fn rows(tensor: &Planned<'_>, part: &Part<'_>, start: usize, end: usize) -> Result<(Vec<u8>, Loss)> {
    let row_bytes = tensor.row_bytes(part);
    let mut output = vec![0; row_bytes * (end - start)];
    let mut values = vec![0.0; part.cols];
    let mut stored = vec![0.0; part.cols];
    let mut loss = Loss::default();
    for (row, out) in (start..end).zip(output.chunks_exact_mut(row_bytes)) {
        dequantise_row(part.format, part.row(row), &mut values);
        if part.plus_one {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::new(
                Code::InvalidBundle,
                format!("the tensor `{}` holds the value {value}", tensor.name),
            ));
        }
        quantise_row(tensor.format, &values, out);
        if tensor.format.is_quantised() {
            dequantise_row(tensor.format, out, &mut stored);
            loss.add(&values, &stored);
        }
    }
    Ok((output, loss))
}
