//! A tensor's values in JSON: nested or flat, row-major.

use bms_nn::{DType, Data, Tensor};
use bms_wire::oip::Values;
use bms_wire::{Code, Error, Result};
use half::{bf16, f16};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::shape;

/// A tensor of these values.
pub(super) fn parse(dtype: DType, data: &Value, dims: &[i64]) -> Result<Tensor> {
    let values = flat(data, dims)?;
    let data = match dtype {
        DType::F32 => {
            Data::F32(each(&values, dtype, |v| v.as_f64().map(|x| x as f32).filter(|x| x.is_finite()))?)
        }
        DType::F64 => Data::F64(each(&values, dtype, Value::as_f64)?),
        DType::Bool => Data::Bool(each(&values, dtype, Value::as_bool)?),
        DType::I64 => Data::I64(each(&values, dtype, Value::as_i64)?),
        DType::I32 => Data::I32(each(&values, dtype, signed)?),
        DType::I16 => Data::I16(each(&values, dtype, signed)?),
        DType::I8 => Data::I8(each(&values, dtype, signed)?),
        DType::U64 => Data::U64(each(&values, dtype, Value::as_u64)?),
        DType::U32 => Data::U32(each(&values, dtype, unsigned)?),
        DType::U16 => Data::U16(each(&values, dtype, unsigned)?),
        DType::U8 => Data::U8(each(&values, dtype, unsigned)?),
        DType::F16 => {
            Data::F16(each(&values, dtype, |v| v.as_f64().map(f16::from_f64).filter(|x| x.is_finite()))?)
        }
        DType::BF16 => {
            Data::BF16(each(&values, dtype, |v| v.as_f64().map(bf16::from_f64).filter(|x| x.is_finite()))?)
        }
        DType::Text => Data::Text(each(&values, dtype, |v| v.as_str().map(str::to_owned))?),
    };
    Tensor::new(shape(dims)?, data)
}

/// The values in order. Data that is nested must be nested as the shape says.
pub(super) fn flat<'a>(data: &'a Value, dims: &[i64]) -> Result<Vec<&'a Value>> {
    let dims = shape(dims)?;
    let count = dims.iter().product();
    let items = match data {
        Value::Array(items) => items,
        Value::Null => return Err(Error::new(Code::InvalidInput, "there is no data")),
        _ => return Err(Error::new(Code::InvalidInput, "the data is not an array")),
    };
    let mut values = Vec::with_capacity(count);
    if items.iter().any(Value::is_array) {
        nested(data, &dims, &mut values)?;
    } else {
        values.extend(items);
    }
    if values.len() != count {
        let got = values.len();
        return Err(Error::new(
            Code::InvalidInput,
            format!("the shape {dims:?} asks for {count} values, {got} came"),
        ));
    }
    Ok(values)
}

/// Recursion goes as deep as the shape, whose rank was given by the request; the JSON parser bounds the depth.
fn nested<'a>(data: &'a Value, dims: &[usize], values: &mut Vec<&'a Value>) -> Result<()> {
    match (data, dims) {
        (Value::Array(items), [dim, rest @ ..]) if items.len() == *dim => {
            items.iter().try_for_each(|item| nested(item, rest, values))
        }
        (Value::Array(_), _) | (_, [_, ..]) => {
            Err(Error::new(Code::InvalidInput, "the data is not nested as its shape says"))
        }
        (value, []) => {
            values.push(value);
            Ok(())
        }
    }
}

fn each<T>(values: &[&Value], dtype: DType, read: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>> {
    let kind = if dtype == DType::Text { "" } else { "finite " };
    let one = |(index, value): (usize, &&Value)| {
        read(value).ok_or_else(|| {
            let shown: String = value.to_string().chars().take(40).collect();
            Error::new(Code::InvalidInput, format!("element {index}, {shown}, is not a {kind}{dtype}"))
        })
    };
    values.iter().enumerate().map(one).collect()
}

fn signed<T: TryFrom<i64>>(value: &Value) -> Option<T> {
    value.as_i64().and_then(|v| T::try_from(v).ok())
}

fn unsigned<T: TryFrom<u64>>(value: &Value) -> Option<T> {
    value.as_u64().and_then(|v| T::try_from(v).ok())
}

/// Values as they go out, flat; none of them when they follow in binary form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown(pub(super) Option<Data>);

impl Values for Shown {
    fn are_absent(&self) -> bool {
        self.0.is_none()
    }
}

/// Floating point numbers stand as what they are, exact also for who reads them in double precision; those that are none are
/// null.
impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            None => serializer.serialize_none(),
            Some(Data::F32(v)) => serializer.collect_seq(v.iter().map(|&v| f64::from(v))),
            Some(Data::F64(v)) => v.serialize(serializer),
            Some(Data::I64(v)) => v.serialize(serializer),
            Some(Data::I32(v)) => v.serialize(serializer),
            Some(Data::I16(v)) => v.serialize(serializer),
            Some(Data::I8(v)) => v.serialize(serializer),
            Some(Data::U64(v)) => v.serialize(serializer),
            Some(Data::U32(v)) => v.serialize(serializer),
            Some(Data::U16(v)) => v.serialize(serializer),
            Some(Data::U8(v)) => v.serialize(serializer),
            Some(Data::Bool(v)) => v.serialize(serializer),
            Some(Data::F16(v)) => serializer.collect_seq(v.iter().map(|v| v.to_f64())),
            Some(Data::BF16(v)) => serializer.collect_seq(v.iter().map(|v| v.to_f64())),
            Some(Data::Text(v)) => v.serialize(serializer),
        }
    }
}
