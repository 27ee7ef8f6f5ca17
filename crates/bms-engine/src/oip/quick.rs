//! A tensor's values read from JSON text in one pass, where they are as they mostly are.
//!
//! A tree of JSON takes four times the memory of the numbers in it, and is read twice. What is not understood here is no error: the
//! request is read again as a tree, which also says what is wrong with it.

use std::fmt;

use bms_nn::{DType, Data, Tensor};
use bms_wire::oip::Values;
use bms_wire::{Code, Error, Result};
use half::{bf16, f16};
use serde::de::{self, DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::shape;

/// Dimensions of nested data; more is left to the tree.
const DEPTH_MAX: usize = 16;

/// The values of a tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Quick {
    elements: Elements,
    /// How many items the arrays of each depth have; none without data.
    lengths: Vec<usize>,
}

#[derive(Clone, Debug, Default, PartialEq)]
enum Elements {
    /// There was none yet.
    #[default]
    Unknown,
    Integers(Vec<i64>),
    Floats(Vec<f64>),
    Bools(Vec<bool>),
    Texts(Vec<String>),
}

impl Values for Quick {
    fn are_absent(&self) -> bool {
        self.lengths.is_empty()
    }
}

/// Any error: the tree says what is wrong.
fn unclear() -> Error {
    Error::new(Code::InvalidInput, "the data is not what the tensor is made of")
}

impl Quick {
    /// A tensor of these values.
    ///
    /// # Errors
    /// When they are not of this type or shape.
    pub(super) fn tensor(self, dtype: DType, dims: &[i64]) -> Result<Tensor> {
        let dims = self.fit(dims)?;
        let data = self.elements.data(dtype).ok_or_else(unclear)?;
        Tensor::new(dims, data)
    }

    /// Texts of this shape.
    ///
    /// # Errors
    /// When they are something else.
    pub(super) fn texts(self, dims: &[i64]) -> Result<Vec<String>> {
        self.fit(dims)?;
        match self.elements {
            Elements::Texts(texts) => Ok(texts),
            Elements::Unknown => Ok(Vec::new()),
            _ => Err(unclear()),
        }
    }

    /// The shape, if the values have it, nested or flat.
    fn fit(&self, dims: &[i64]) -> Result<Vec<usize>> {
        let dims = shape(dims)?;
        let is_it = match self.lengths[..] {
            [] => false,
            [count] => count == dims.iter().product::<usize>(),
            _ => self.lengths == dims,
        };
        if is_it { Ok(dims) } else { Err(unclear()) }
    }
}

impl Elements {
    fn data(self, dtype: DType) -> Option<Data> {
        Some(match dtype {
            DType::F32 => Data::F32(self.floats(|v| v as f32, f32::is_finite)?),
            DType::F64 => Data::F64(self.floats(|v| v, f64::is_finite)?),
            DType::F16 => Data::F16(self.floats(f16::from_f64, f16::is_finite)?),
            DType::BF16 => Data::BF16(self.floats(bf16::from_f64, bf16::is_finite)?),
            DType::I64 => Data::I64(self.integers()?),
            DType::I32 => Data::I32(self.integers()?),
            DType::I16 => Data::I16(self.integers()?),
            DType::I8 => Data::I8(self.integers()?),
            DType::U64 => Data::U64(self.integers()?),
            DType::U32 => Data::U32(self.integers()?),
            DType::U16 => Data::U16(self.integers()?),
            DType::U8 => Data::U8(self.integers()?),
            DType::Bool => match self {
                Elements::Bools(values) => Data::Bool(values),
                Elements::Unknown => Data::Bool(Vec::new()),
                _ => return None,
            },
            DType::Text => match self {
                Elements::Texts(values) => Data::Text(values),
                Elements::Unknown => Data::Text(Vec::new()),
                _ => return None,
            },
        })
    }

    fn floats<T: Copy>(self, of: impl Fn(f64) -> T, is_finite: impl Fn(T) -> bool) -> Option<Vec<T>> {
        let values: Vec<T> = match self {
            Elements::Floats(values) => values.into_iter().map(of).collect(),
            Elements::Integers(values) => values.into_iter().map(|v| of(v as f64)).collect(),
            Elements::Unknown => Vec::new(),
            Elements::Bools(_) | Elements::Texts(_) => return None,
        };
        values.iter().all(|value| is_finite(*value)).then_some(values)
    }

    fn integers<T: TryFrom<i64>>(self) -> Option<Vec<T>> {
        match self {
            Elements::Integers(values) => values.into_iter().map(|v| T::try_from(v).ok()).collect(),
            Elements::Unknown => Some(Vec::new()),
            _ => None,
        }
    }

    fn add_integer(&mut self, value: i64) -> bool {
        match self {
            Elements::Integers(values) => values.push(value),
            // As good as a float: it is of a type that has floats.
            Elements::Floats(values) => values.push(value as f64),
            Elements::Unknown => *self = Elements::Integers(vec![value]),
            _ => return false,
        }
        true
    }

    fn add_float(&mut self, value: f64) -> bool {
        match self {
            Elements::Floats(values) => values.push(value),
            Elements::Integers(values) => {
                let mut floats: Vec<f64> = values.iter().map(|&v| v as f64).collect();
                floats.push(value);
                *self = Elements::Floats(floats);
            }
            Elements::Unknown => *self = Elements::Floats(vec![value]),
            _ => return false,
        }
        true
    }

    fn add_bool(&mut self, value: bool) -> bool {
        match self {
            Elements::Bools(values) => values.push(value),
            Elements::Unknown => *self = Elements::Bools(vec![value]),
            _ => return false,
        }
        true
    }

    fn add_text(&mut self, value: String) -> bool {
        match self {
            Elements::Texts(values) => values.push(value),
            Elements::Unknown => *self = Elements::Texts(vec![value]),
            _ => return false,
        }
        true
    }
}

impl<'de> Deserialize<'de> for Quick {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut reading = Reading::default();
        deserializer.deserialize_any(Item { reading: &mut reading, depth: 0 })?;
        let lengths = reading.lengths.into_iter().map(|length| length.unwrap_or(0)).collect();
        Ok(Quick { elements: reading.elements, lengths })
    }
}

/// What was read so far.
#[derive(Default)]
struct Reading {
    elements: Elements,
    /// How many items the arrays of each depth have, once one of them is over.
    lengths: Vec<Option<usize>>,
    /// How deep the values stand, once there is one.
    depth: Option<usize>,
}

/// A value, or an array of what is one level deeper.
struct Item<'a> {
    reading: &'a mut Reading,
    depth: usize,
}

impl Item<'_> {
    /// Adds a value that stands here.
    fn add<E: de::Error>(self, add: impl FnOnce(&mut Elements) -> bool) -> Result<(), E> {
        let Item { reading, depth } = self;
        let is_here = 0 < depth && *reading.depth.get_or_insert(depth) == depth;
        if is_here && add(&mut reading.elements) { Ok(()) } else { Err(E::custom("values are mixed")) }
    }
}

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the values of a tensor")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.add(|elements| elements.add_integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.add(|elements| i64::try_from(value).is_ok_and(|value| elements.add_integer(value)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.add(|elements| elements.add_float(value))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.add(|elements| elements.add_bool(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<(), E> {
        self.add(|elements| elements.add_text(value))
    }

    /// `null` for the whole is no data.
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        if self.depth == 0 { Ok(()) } else { Err(E::custom("a value is null")) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Item { reading, depth } = self;
        let mixed = || A::Error::custom("arrays are mixed");
        if DEPTH_MAX <= depth || reading.depth.is_some_and(|values| values <= depth) {
            return Err(mixed());
        }
        if reading.lengths.len() <= depth {
            reading.lengths.push(None);
        }
        let mut count = 0;
        while items.next_element_seed(Item { reading: &mut *reading, depth: depth + 1 })?.is_some() {
            count += 1;
        }
        match *reading.lengths[depth].get_or_insert(count) == count {
            true => Ok(()),
            false => Err(mixed()),
        }
    }
}

#[cfg(test)]
mod tests;
