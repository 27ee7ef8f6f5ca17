//! Values as bytes, little-endian and row-major, as tensors cross a network: copied, never parsed.

use bms_wire::{Code, Error, Result};
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};

use super::{DType, Data};

impl Data {
    /// The values whose bytes these are.
    ///
    /// # Errors
    /// `InvalidInput` when the bytes are no whole number of values, or a bool is neither 0 nor 1; for strings, which
    /// have no form of their own here.
    pub fn from_le_bytes(dtype: DType, bytes: &[u8]) -> Result<Data> {
        let size = dtype.size();
        if size == 0 || !bytes.len().is_multiple_of(size) {
            let what = format!("{} bytes are no whole number of values of type {dtype}", bytes.len());
            return Err(Error::new(Code::InvalidInput, what));
        }
        Ok(match dtype {
            DType::F32 => Data::F32(copy(bytes, f32::from_le_bytes)),
            DType::F64 => Data::F64(copy(bytes, f64::from_le_bytes)),
            DType::F16 => Data::F16(copy(bytes, u16::from_le_bytes).reinterpret_into::<f16>()),
            DType::BF16 => Data::BF16(copy(bytes, u16::from_le_bytes).reinterpret_into::<bf16>()),
            DType::I64 => Data::I64(copy(bytes, i64::from_le_bytes)),
            DType::I32 => Data::I32(copy(bytes, i32::from_le_bytes)),
            DType::I16 => Data::I16(copy(bytes, i16::from_le_bytes)),
            DType::I8 => Data::I8(copy(bytes, i8::from_le_bytes)),
            DType::U64 => Data::U64(copy(bytes, u64::from_le_bytes)),
            DType::U32 => Data::U32(copy(bytes, u32::from_le_bytes)),
            DType::U16 => Data::U16(copy(bytes, u16::from_le_bytes)),
            DType::U8 => Data::U8(bytes.to_vec()),
            DType::Bool => match bytes.iter().position(|&byte| 1 < byte) {
                None => Data::Bool(bytes.iter().map(|&byte| byte == 1).collect()),
                Some(at) => {
                    let what = format!("value {at} of type bool is {}, neither 0 nor 1", bytes[at]);
                    return Err(Error::new(Code::InvalidInput, what));
                }
            },
            DType::Text => Data::Text(Vec::new()),
        })
    }

    /// Adds the bytes of the values; nothing for strings, see [`Data::as_text`].
    pub fn extend_le_bytes(&self, into: &mut Vec<u8>) {
        match self {
            Data::F32(v) => write(v, into, |v| v.to_le_bytes()),
            Data::F64(v) => write(v, into, |v| v.to_le_bytes()),
            Data::F16(v) => write(v, into, |v| v.to_bits().to_le_bytes()),
            Data::BF16(v) => write(v, into, |v| v.to_bits().to_le_bytes()),
            Data::I64(v) => write(v, into, |v| v.to_le_bytes()),
            Data::I32(v) => write(v, into, |v| v.to_le_bytes()),
            Data::I16(v) => write(v, into, |v| v.to_le_bytes()),
            Data::I8(v) => write(v, into, |v| v.to_le_bytes()),
            Data::U64(v) => write(v, into, |v| v.to_le_bytes()),
            Data::U32(v) => write(v, into, |v| v.to_le_bytes()),
            Data::U16(v) => write(v, into, |v| v.to_le_bytes()),
            Data::U8(v) => into.extend_from_slice(v),
            Data::Bool(v) => write(v, into, |v| [u8::from(v)]),
            Data::Text(_) => {}
        }
    }

    /// The values, when they are strings.
    pub fn as_text(&self) -> Option<&[String]> {
        match self {
            Data::Text(values) => Some(values),
            _ => None,
        }
    }
}

/// On a little-endian machine the compiler makes one copy of it.
fn copy<T, const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&bytes| value(bytes)).collect()
}

fn write<T: Copy, const N: usize>(values: &[T], into: &mut Vec<u8>, bytes: impl Fn(T) -> [u8; N]) {
    let start = into.len();
    into.resize(start + values.len() * N, 0);
    for (place, &value) in into[start..].as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *place = bytes(value);
    }
}

#[cfg(test)]
mod tests;
