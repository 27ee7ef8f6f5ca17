//! A tensor's values read straight from JSON text, where all is as it should be.

use std::marker::PhantomData;

use half::{bf16, f16};
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, SeqAccess, Visitor};
use serde::{Deserialize as _, Deserializer};

/// What values are made of.
pub(super) trait Element: Sized {
    /// What stands for one in JSON.
    type Json: DeserializeOwned;

    /// The value, unless it is beyond what the type can hold.
    fn of(json: Self::Json) -> Option<Self>;
}

macro_rules! as_they_stand {
    ($($type:ty),+) => {
        $(impl Element for $type {
            type Json = $type;

            fn of(json: $type) -> Option<$type> {
                Some(json)
            }
        })+
    };
}

as_they_stand!(f64, bool, i64, i32, i16, i8, u64, u32, u16, u8, String);

impl Element for f32 {
    type Json = f64;

    fn of(json: f64) -> Option<f32> {
        Some(json as f32).filter(|value| value.is_finite())
    }
}

impl Element for f16 {
    type Json = f64;

    fn of(json: f64) -> Option<f16> {
        Some(f16::from_f64(json)).filter(|value| value.is_finite())
    }
}

impl Element for bf16 {
    type Json = f64;

    fn of(json: f64) -> Option<bf16> {
        Some(bf16::from_f64(json)).filter(|value| value.is_finite())
    }
}

/// The values of an array of this shape, nested or flat; `None` when it is something else.
pub(super) fn read<T: Element>(json: &str, dims: &[usize]) -> Option<Vec<T>> {
    let count = dims.iter().product();
    let inner = json.trim_start().strip_prefix('[')?;
    let is_nested = inner.trim_start().starts_with('[');
    // A value has a character and one behind it, so the text bounds what is set aside.
    let mut values = Vec::with_capacity(json.len().div_ceil(2).min(count));
    let dims = if is_nested { dims } else { &[count][..] };
    let level = Level { dims, into: &mut values };
    level.deserialize(&mut serde_json::Deserializer::from_str(json)).ok()?;
    Some(values)
}

/// An array with so many dimensions left, whose values are added to others.
struct Level<'a, T> {
    dims: &'a [usize],
    into: &'a mut Vec<T>,
}

impl<'de, T: Element> DeserializeSeed<'de> for Level<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Element> Visitor<'de> for Level<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "an array of {:?}", self.dims)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Level { dims, into } = self;
        let mismatch = || A::Error::custom("it is not as its shape says");
        let (&length, inner) = dims.split_first().ok_or_else(mismatch)?;
        let mut count = 0;
        loop {
            let came = match inner {
                [] => items.next_element_seed(One::<T>(PhantomData))?.map(|value| into.push(value)),
                inner => items.next_element_seed(Level { dims: inner, into })?,
            };
            if came.is_none() {
                break;
            }
            count += 1;
            if length < count {
                return Err(mismatch());
            }
        }
        if count == length { Ok(()) } else { Err(mismatch()) }
    }
}

/// One value.
struct One<T>(PhantomData<T>);

impl<'de, T: Element> DeserializeSeed<'de> for One<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::of(T::Json::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("it is too large"))
    }
}

#[cfg(test)]
mod tests;
