//! The built-in run-time: rten.
//!
//! rten has four element types. 64-bit integers and bools become `i32` on the way in and out; the
//! refusals make sure that no value is changed by it.

use std::sync::Arc;

use ::rten::{Model, ModelOptions, NodeId, RunOptions, Value};
use bms_wire::{Code, Error, Result};
use rten_tensor::Layout;

use super::{Backend, Home, RuntimeInfo, RuntimeKind, ValueSpec, fenced};
use crate::{DType, Data, Tensor};

/// The version in the workspace manifest; rten does not export its own.
const VERSION: &str = "0.27.0";

pub(super) fn info() -> RuntimeInfo {
    RuntimeInfo { kind: RuntimeKind::Rten, available: true, detail: format!("rten {VERSION}, built in") }
}

pub(super) struct Rten {
    model: Model,
    home: Home,
    inputs: Vec<(String, NodeId)>,
    outputs: Vec<(ValueSpec, NodeId)>,
}

/// Loads a model that the refusals let pass.
pub(super) fn load(
    bytes: &[u8],
    inputs: &[ValueSpec],
    outputs: &[ValueSpec],
    threads: usize,
) -> Result<Rten> {
    let home = Home::new(threads);
    let model = fenced(Code::UnsupportedModel, "rten", || {
        // Packing and constant folding run on the pool too, so that loading keeps to the thread limit.
        home.run(|| ModelOptions::with_all_ops().prepack_weights(true).load(bytes.to_vec())).map_err(
            |cause| {
                Error::new(Code::UnsupportedModel, format!("rten cannot load the model: {cause}"))
                    .because(cause)
            },
        )
    })?;
    let id = |name: &str| {
        model.find_node(name).ok_or_else(|| {
            Error::new(
                Code::UnsupportedModel,
                format!("rten lost the value `{name}` while loading the model"),
            )
        })
    };
    let inputs = inputs.iter().map(|spec| Ok((spec.name.clone(), id(&spec.name)?))).collect::<Result<_>>()?;
    let outputs = outputs.iter().map(|spec| Ok((spec.clone(), id(&spec.name)?))).collect::<Result<_>>()?;
    Ok(Rten { model, home, inputs, outputs })
}

impl Backend for Rten {
    fn home(&self) -> Option<Home> {
        Some(self.home.clone())
    }

    fn run(&mut self, given: Vec<(String, Tensor)>) -> Result<Vec<(String, Tensor)>> {
        let mut values = Vec::with_capacity(given.len());
        for (name, tensor) in given {
            let known = self.inputs.iter().find(|(input, _)| *input == name);
            let (_, id) =
                known.ok_or_else(|| Error::new(Code::InvalidInput, format!("there is no input `{name}`")))?;
            values.push((*id, to_value(&name, tensor)?.into()));
        }
        let ids: Vec<NodeId> = self.outputs.iter().map(|(_, id)| *id).collect();
        let home = self.home.here();
        let pool = home.as_ref().unwrap_or(&self.home).pool();
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(pool)));
        let results = fenced(Code::Internal, "rten", || {
            self.model.run(values, &ids, Some(options)).map_err(run_error)
        })?;
        self.outputs.iter().zip(results).map(|((spec, _), value)| from_value(spec, value)).collect()
    }
}

/// rten finds out while running that an operator lacks a type or a variant; that is no fault of the input.
fn run_error(cause: ::rten::RunError) -> Error {
    let text = cause.to_string();
    let code = if text.contains("unsupported") { Code::UnsupportedModel } else { Code::InvalidInput };
    Error::new(code, format!("rten cannot run the model on this input: {text}")).because(cause)
}

fn to_value(name: &str, tensor: Tensor) -> Result<Value> {
    let (shape, data) = tensor.into_parts();
    let unsupported = |dtype: DType| {
        Error::new(Code::UnsupportedModel, format!("rten has no {dtype}, which input `{name}` is made of"))
    };
    let value = match data {
        Data::F32(values) => Value::from_shape(&shape, values).ok(),
        Data::I32(values) => Value::from_shape(&shape, values).ok(),
        Data::I8(values) => Value::from_shape(&shape, values).ok(),
        Data::U8(values) => Value::from_shape(&shape, values).ok(),
        Data::Bool(values) => Value::from_shape(&shape, values.into_iter().map(i32::from).collect()).ok(),
        Data::I64(values) => Value::from_shape(&shape, narrow(name, &values)?).ok(),
        other => return Err(unsupported(other.dtype())),
    };
    value.ok_or_else(|| Error::new(Code::Internal, format!("input `{name}` lost its shape")))
}

fn narrow(name: &str, values: &[i64]) -> Result<Vec<i32>> {
    let narrowed = values.iter().map(|&value| {
        i32::try_from(value).map_err(|_| {
            Error::new(
                Code::InvalidInput,
                format!("input `{name}` holds {value}, and rten counts in 32 bits"),
            )
            .hint("Use ONNX Runtime for this model: `--runtime onnxruntime`.")
        })
    });
    narrowed.collect()
}

fn from_value(spec: &ValueSpec, value: Value) -> Result<(String, Tensor)> {
    let found = value.dtype();
    let mismatch = || {
        let message =
            format!("rten gave output `{}` as {found:?} where the model says {}", spec.name, spec.dtype);
        Error::new(Code::Internal, message)
    };
    let shape = value.shape().to_vec();
    // A wrong shape is how a bug in an operator shows when nothing else does.
    let fits = !spec.ranked
        || (spec.shape.len() == shape.len()
            && spec.shape.iter().zip(&shape).all(|(want, have)| want.is_none_or(|want| want == *have)));
    if !fits {
        let message = format!("rten gave output {spec} the shape {shape:?}");
        return Err(Error::new(Code::Internal, message));
    }
    let data = match (spec.dtype, value) {
        (DType::F32, Value::FloatTensor(tensor)) => Data::F32(tensor.into_data()),
        (DType::I32, Value::Int32Tensor(tensor)) => Data::I32(tensor.into_data()),
        (DType::I64, Value::Int32Tensor(tensor)) => {
            Data::I64(tensor.into_data().into_iter().map(i64::from).collect())
        }
        (DType::Bool, Value::Int32Tensor(tensor)) => {
            Data::Bool(tensor.into_data().into_iter().map(|v| v != 0).collect())
        }
        (DType::I8, Value::Int8Tensor(tensor)) => Data::I8(tensor.into_data()),
        (DType::U8, Value::UInt8Tensor(tensor)) => Data::U8(tensor.into_data()),
        _ => return Err(mismatch()),
    };
    Ok((spec.name.clone(), Tensor::new(shape, data)?))
}
