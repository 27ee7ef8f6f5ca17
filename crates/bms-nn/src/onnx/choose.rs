//! Which run-time gets a graph, by support and by a short measurement.

use std::time::{Duration, Instant};

use bms_wire::{Code, Error, Result, limits};
use half::{bf16, f16};

use super::proto::ModelProto;
use super::signature::Signature;
use super::{Backend, LoadOptions, RuntimeChoice, RuntimeKind, Session, onnxruntime, refusals, rten};
use crate::{DType, Data, Tensor};

/// Time one run-time may take to be measured, beyond its two first runs.
const MEASURE_MAX: Duration = Duration::from_millis(150);
/// Runs in a measurement.
const MEASURE_RUNS: usize = 10;
/// How far the run-times' answers may lie apart, relative to the largest value: rounding, not error.
const AGREEMENT: f32 = 1e-2;

/// Loads the model on the run-time asked for, or on the better of the two.
pub(super) fn load(
    bytes: &[u8],
    model: &ModelProto,
    signature: Signature,
    options: &LoadOptions,
) -> Result<Session> {
    let (kind, measured, backend) = match options.runtime {
        RuntimeChoice::Fixed(kind) => (kind, Vec::new(), open(kind, bytes, model, &signature, options)?),
        RuntimeChoice::Auto if !onnxruntime::available() => {
            let backend = open(RuntimeKind::Rten, bytes, model, &signature, options).map_err(|error| {
                let hint = "ONNX Runtime may support it; `bms doctor` says how to get it.";
                if error.code() == Code::UnsupportedModel { error.hint(hint) } else { error }
            })?;
            (RuntimeKind::Rten, Vec::new(), backend)
        }
        RuntimeChoice::Auto => pick(bytes, model, &signature, options)?,
    };
    Ok(Session { inputs: signature.inputs, outputs: signature.outputs, kind, measured, backend })
}

fn open(
    kind: RuntimeKind,
    bytes: &[u8],
    model: &ModelProto,
    signature: &Signature,
    options: &LoadOptions,
) -> Result<Box<dyn Backend>> {
    refusals::check(kind, model, signature)?;
    Ok(match kind {
        RuntimeKind::Rten => {
            Box::new(rten::load(bytes, &signature.inputs, &signature.outputs, options.threads)?)
        }
        RuntimeKind::OnnxRuntime => Box::new(onnxruntime::load(bytes, options.threads)?),
    })
}

type Picked = (RuntimeKind, Vec<(RuntimeKind, Duration)>, Box<dyn Backend>);

fn pick(bytes: &[u8], model: &ModelProto, signature: &Signature, options: &LoadOptions) -> Result<Picked> {
    let rten = open(RuntimeKind::Rten, bytes, model, signature, options);
    let onnxruntime = open(RuntimeKind::OnnxRuntime, bytes, model, signature, options);
    match (rten, onnxruntime) {
        // rten counts in 32 bits: whatever a trial shows, another request may bring more.
        (Ok(_), Ok(onnxruntime)) if signature.inputs.iter().any(|input| input.dtype == DType::I64) => {
            Ok((RuntimeKind::OnnxRuntime, Vec::new(), onnxruntime))
        }
        (Ok(rten), Ok(onnxruntime)) => Ok(compare(signature, rten, onnxruntime)),
        (Ok(rten), Err(_)) => Ok((RuntimeKind::Rten, Vec::new(), rten)),
        (Err(_), Ok(onnxruntime)) => Ok((RuntimeKind::OnnxRuntime, Vec::new(), onnxruntime)),
        (Err(a), Err(b)) => {
            Err(Error::new(Code::UnsupportedModel, format!("no run-time supports the model: {a}; {b}")))
        }
    }
}

/// Runs both on a synthetic input and keeps the faster, or the reference when they disagree.
fn compare(signature: &Signature, mut rten: Box<dyn Backend>, mut onnxruntime: Box<dyn Backend>) -> Picked {
    for free in [8, 1, 32] {
        let Some(inputs) = synthetic(signature, free) else { continue };
        let (Ok(a), Ok(b)) = (measure(rten.as_mut(), &inputs), measure(onnxruntime.as_mut(), &inputs)) else {
            continue;
        };
        let measured = vec![(RuntimeKind::Rten, a.time), (RuntimeKind::OnnxRuntime, b.time)];
        // ONNX Runtime is the specification's reference: when the two differ, its answer stands.
        let keep_rten = a.time < b.time && agree(&a.outputs, &b.outputs);
        return if keep_rten {
            (RuntimeKind::Rten, measured, rten)
        } else {
            (RuntimeKind::OnnxRuntime, measured, onnxruntime)
        };
    }
    // No synthetic input suits the graph, so nothing could be compared: take the reference.
    (RuntimeKind::OnnxRuntime, Vec::new(), onnxruntime)
}

struct Measurement {
    /// Shortest of the runs.
    time: Duration,
    outputs: Vec<(String, Tensor)>,
}

/// Measures where the backend will run.
fn measure(backend: &mut dyn Backend, inputs: &[(String, Tensor)]) -> Result<Measurement> {
    match backend.home() {
        Some(home) => home.run(|| measure_here(backend, inputs)),
        None => measure_here(backend, inputs),
    }
}

fn measure_here(backend: &mut dyn Backend, inputs: &[(String, Tensor)]) -> Result<Measurement> {
    // The first run allocates and compiles; it is not typical.
    let outputs = backend.run(inputs.to_vec())?;
    let begin = Instant::now();
    let mut time = Duration::MAX;
    for _ in 0..MEASURE_RUNS {
        let fed = inputs.to_vec();
        let start = Instant::now();
        backend.run(fed)?;
        time = time.min(start.elapsed());
        if begin.elapsed() > MEASURE_MAX {
            break;
        }
    }
    Ok(Measurement { time, outputs })
}

/// An input of the declared shapes. The first free dimension of each input (the batch) is 1, others are
/// `free`, equal names equal lengths. `None` when it would be too large.
fn synthetic(signature: &Signature, free: usize) -> Option<Vec<(String, Tensor)>> {
    let batch = signature.symbols.iter().filter_map(|dims| dims.first()?.clone()).next();
    let mut inputs = Vec::new();
    for (spec, symbols) in signature.inputs.iter().zip(&signature.symbols) {
        let length = |(axis, dim): (usize, &Option<usize>)| {
            let symbol = symbols.get(axis).and_then(Option::as_deref);
            dim.unwrap_or(if axis == 0 || (symbol.is_some() && symbol == batch.as_deref()) {
                1
            } else {
                free
            })
        };
        let shape: Vec<usize> = spec.shape.iter().enumerate().map(length).collect();
        let count =
            crate::tensor::element_count(&shape).filter(|&count| count <= limits::TENSOR_VALUES_MAX)?;
        inputs.push((spec.name.clone(), Tensor::new(shape, values(spec.dtype, count)).ok()?));
    }
    Some(inputs)
}

/// Values without structure: floats in [0, 1), integers 0 and 1 (they may be indices).
fn values(dtype: DType, count: usize) -> Data {
    // Knuth's multiplicative hash: every run sees the same values, neighbours differ.
    let float = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32;
    let bit = |i: usize| (i % 2) as u8;
    let each = 0..count;
    match dtype {
        DType::F32 => Data::F32(each.map(float).collect()),
        DType::F64 => Data::F64(each.map(|i| f64::from(float(i))).collect()),
        DType::I64 => Data::I64(each.map(|i| i64::from(bit(i))).collect()),
        DType::I32 => Data::I32(each.map(|i| i32::from(bit(i))).collect()),
        DType::I16 => Data::I16(each.map(|i| i16::from(bit(i))).collect()),
        DType::I8 => Data::I8(each.map(|i| bit(i) as i8).collect()),
        DType::U64 => Data::U64(each.map(|i| u64::from(bit(i))).collect()),
        DType::U32 => Data::U32(each.map(|i| u32::from(bit(i))).collect()),
        DType::U16 => Data::U16(each.map(|i| u16::from(bit(i))).collect()),
        DType::U8 => Data::U8(each.map(bit).collect()),
        DType::Bool => Data::Bool(each.map(|i| bit(i) == 1).collect()),
        DType::F16 => Data::F16(each.map(|i| f16::from_f32(float(i))).collect()),
        DType::BF16 => Data::BF16(each.map(|i| bf16::from_f32(float(i))).collect()),
        DType::Text => Data::Text(each.map(|i| bit(i).to_string()).collect()),
    }
}

/// Whether two run-times gave the same answers, up to rounding.
fn agree(a: &[(String, Tensor)], b: &[(String, Tensor)]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|((_, a), (_, b))| {
            a.shape() == b.shape()
                && match (a.as_f32(), b.as_f32()) {
                    (Some(a), Some(b)) => close(a, b),
                    _ => a.data() == b.data(),
                }
        })
}

fn close(a: &[f32], b: &[f32]) -> bool {
    let largest = b.iter().filter(|v| v.is_finite()).fold(0f32, |max, v| max.max(v.abs()));
    let same = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= AGREEMENT * largest;
    a.iter().zip(b).all(|(&a, &b)| same(a, b))
}

#[cfg(test)]
mod tests;
