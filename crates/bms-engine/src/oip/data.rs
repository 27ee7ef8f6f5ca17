//! A tensor's values in JSON: nested or flat, row-major.

use std::borrow::Cow;

use bms_nn::{DType, Data, Tensor};
use bms_wire::oip::Values;
use bms_wire::{Code, Error, Result};
use half::{bf16, f16};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::elements::{self, Element};
use super::shape;

/// Values as they came. A tree of JSON takes many times what the numbers in it do, so text is read without one.
#[derive(Clone, Debug)]
pub(super) enum Json<'a> {
    Read(Value),
    /// None when there was no data, or `null`.
    Text(Option<&'a RawValue>),
}

impl Default for Json<'_> {
    fn default() -> Self {
        Json::Text(None)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(deserializer).map(Json::Text)
    }
}

impl Values for Json<'_> {
    fn are_absent(&self) -> bool {
        matches!(self, Json::Text(None) | Json::Read(Value::Null))
    }
}

impl Json<'_> {
    /// The values of a text that is as it should be, in order; `None` for whatever else there is, which [`Json::value`] is for.
    pub(super) fn elements<T: Element>(&self, dims: &[usize]) -> Option<Vec<T>> {
        match self {
            Json::Text(Some(text)) => elements::read(text.get(), dims),
            Json::Text(None) | Json::Read(_) => None,
        }
    }

    /// The values as a tree.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for what is not JSON.
    pub(super) fn value(&self) -> Result<Cow<'_, Value>> {
        match self {
            Json::Read(value) => Ok(Cow::Borrowed(value)),
            Json::Text(None) => Ok(Cow::Owned(Value::Null)),
            Json::Text(Some(text)) => serde_json::from_str(text.get()).map(Cow::Owned).map_err(|e| {
                Error::new(Code::InvalidRequest, format!("the data cannot be read: {e}")).because(e)
            }),
        }
    }
}

/// A tensor of these values.
pub(super) fn parse(dtype: DType, json: &Json<'_>, dims: &[i64]) -> Result<Tensor> {
    let lengths = shape(dims)?;
    match read(dtype, json, &lengths) {
        Some(data) => Tensor::new(lengths, data),
        // What is wrong with it is said of the tree.
        None => Tensor::new(lengths, of_value(dtype, &*json.value()?, dims)?),
    }
}

macro_rules! read_each {
    ($($dtype:ident),+ $(,)?) => {
        fn read(dtype: DType, json: &Json<'_>, dims: &[usize]) -> Option<Data> {
            Some(match dtype { $(DType::$dtype => Data::$dtype(json.elements(dims)?),)+ })
        }
    };
}

read_each!(F32, F64, Bool, I64, I32, I16, I8, U64, U32, U16, U8, F16, BF16, Text);

fn of_value(dtype: DType, data: &Value, dims: &[i64]) -> Result<Data> {
    let values = flat(data, dims)?;
    Ok(match dtype {
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
    })
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
