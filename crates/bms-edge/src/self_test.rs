//! Asking a freshly loaded model one question, before it is asked real ones.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use bms_data::Image;
use bms_engine::{Answer, Description, Engine, Input};
use bms_nn::onnx::ValueSpec;
use bms_nn::{DType, Data, Tensor};
use bms_wire::{Code, Error, Postprocess, Preprocess, Result, limits};

/// How far the probabilities of one answer may be from a sum of 1.
const SUM_TOLERANCE: f32 = 1e-3;

/// The engine, when it answers made-up inputs within the deadline, with finite values and, when it
/// classifies, with probabilities that sum to 1.
///
/// # Errors
/// [`Code::UnsupportedModel`] saying what it answered instead; what the engine reports.
pub(crate) fn passed(engine: Engine) -> Result<Engine> {
    let (sender, receiver) = sync_channel(1);
    let input = question(engine.describe())?;
    let submitted = engine.submit(input, move |answer| {
        // Nobody waits any more once the deadline passed.
        let _ = sender.send(answer);
    });
    let deadline = Duration::from_millis(limits::INFER_DEADLINE_MS);
    let answer = submitted.and_then(|()| match receiver.recv_timeout(deadline) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Disconnected) => Err(failed("it gave no answer")),
        Err(RecvTimeoutError::Timeout) => Err(failed("it gave no answer in time")),
    });
    let is_whole = matches!(engine.describe().pipeline.postprocess, Postprocess::Classify { .. });
    match answer.and_then(|answer| check(&answer, is_whole)) {
        Ok(()) => Ok(engine),
        Err(error) => {
            // Dropping waits for the engine's thread, which may never end.
            std::thread::spawn(move || drop(engine));
            Err(error.while_doing("test the version"))
        }
    }
}

/// An input that fits the model: a dark, a bright and a sloping picture; the columns' means and rows a
/// deviation above and below; or zeros.
fn question(model: &Description) -> Result<Input> {
    match &model.pipeline.preprocess {
        Preprocess::Image(input) => {
            let (width, height) = (input.width, input.height);
            let slope = |at: u64, length: u32| at * 255 / u64::from(length.max(2) - 1);
            let sloping = |at: u64| {
                let (x, y) = (at % u64::from(width), at / u64::from(width));
                ((slope(x, width) + slope(y, height)) / 2) as u8
            };
            let picture = |value: &dyn Fn(u64) -> u8| {
                let pixels = (0..u64::from(width) * u64::from(height)).map(value).collect();
                Image { width, height, channels: 1, pixels }.encode_png()
            };
            Ok(Input::Images(vec![picture(&|_| 0)?, picture(&|_| 255)?, picture(&sloping)?]))
        }
        Preprocess::Table(input) => {
            let row = |deviations: f32| {
                input.mean.iter().zip(&input.std).map(|(mean, std)| mean + deviations * std).collect()
            };
            Ok(Input::Rows(vec![row(0.0), row(1.0), row(-1.0)]))
        }
        Preprocess::Picture(_) => {
            // Of a usual size, in colour: the pipeline makes what it wants of it.
            let pixels = (0..3 * 256 * 256).map(|at| (at / 768) as u8).collect();
            let picture = Image { width: 256, height: 256, channels: 3, pixels };
            Ok(Input::Images(vec![picture.encode_png()?]))
        }
        Preprocess::Text(_) => Ok(Input::Texts(vec!["Hello, world.".to_owned()])),
        Preprocess::Bytes(_) => Ok(Input::Files(vec![b"<html><body>Hello</body></html>\n".to_vec()])),
        Preprocess::Audio(audio) => Ok(Input::Files(vec![silence(audio.sample_rate)])),
        Preprocess::Tensor {} => {
            let zeros = |spec: &ValueSpec| Ok((spec.name.clone(), zeros(spec)?));
            Ok(Input::Tensors(model.inputs.iter().map(zeros).collect::<Result<_>>()?))
        }
    }
}

/// A second of silence as a WAV file of 16 bits.
fn silence(sample_rate: u32) -> Vec<u8> {
    let bytes = 2 * sample_rate;
    let mut wav = Vec::with_capacity(44 + bytes as usize);
    wav.extend_from_slice(b"RIFF");
    wav.extend((36 + bytes).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(sample_rate.to_le_bytes());
    wav.extend(bytes.to_le_bytes());
    wav.extend_from_slice(b"\x02\0\x10\0data");
    wav.extend(bytes.to_le_bytes());
    wav.resize(wav.len() + bytes as usize, 0);
    wav
}

fn zeros(spec: &ValueSpec) -> Result<Tensor> {
    let shape: Vec<usize> = spec.shape.iter().map(|length| length.unwrap_or(1)).collect();
    let values = shape.iter().try_fold(1usize, |n, &length| n.checked_mul(length));
    let count = values
        .filter(|&n| n <= limits::TENSOR_VALUES_MAX)
        .ok_or_else(|| Error::new(Code::UnsupportedModel, format!("the input {spec} is over the limit")))?;
    let data = match spec.dtype {
        DType::F32 => Data::F32(vec![0.0; count]),
        DType::F64 => Data::F64(vec![0.0; count]),
        DType::I64 => Data::I64(vec![0; count]),
        DType::I32 => Data::I32(vec![0; count]),
        DType::I16 => Data::I16(vec![0; count]),
        DType::I8 => Data::I8(vec![0; count]),
        DType::U64 => Data::U64(vec![0; count]),
        DType::U32 => Data::U32(vec![0; count]),
        DType::U16 => Data::U16(vec![0; count]),
        DType::U8 => Data::U8(vec![0; count]),
        DType::Bool => Data::Bool(vec![false; count]),
        DType::F16 => Data::F16(vec![Default::default(); count]),
        DType::BF16 => Data::BF16(vec![Default::default(); count]),
        DType::Text => Data::Text(vec![String::new(); count]),
    };
    Tensor::new(shape, data)
}

/// Checks that numbers are numbers; `is_whole` when the answer has all labels and one of them is right.
fn check(answer: &Answer, is_whole: bool) -> Result<()> {
    if let Some((name, _)) = answer.outputs.iter().find(|(_, tensor)| !tensor.is_finite()) {
        return Err(failed(&format!("its output `{name}` holds NaN or infinity")));
    }
    for class in answer.classes.iter().flatten() {
        let sum: f32 = class.ranked.iter().map(|(_, probability)| probability).sum();
        let single = |(_, probability): &(String, f32)| (0.0..=1.0 + SUM_TOLERANCE).contains(probability);
        let off = if !is_whole && class.ranked.iter().all(single) { 0.0 } else { (sum - 1.0).abs() };
        if off.is_nan() || SUM_TOLERANCE < off {
            return Err(failed(&format!("its probabilities sum to {sum}")));
        }
    }
    Ok(())
}

fn failed(what: &str) -> Error {
    Error::new(Code::UnsupportedModel, what).hint("The version before it goes on answering.")
}

#[cfg(test)]
mod tests;
