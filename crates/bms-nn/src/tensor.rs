//! Dense tensors in main memory, row-major.

mod bytes;

use bms_wire::{Code, Error, Result};
use half::{bf16, f16};

/// Most dimensions a tensor may have. Real models stay below 8; a longer shape is an attack on
/// whoever loops over it.
const RANK_MAX: usize = 16;

macro_rules! elements {
    ($( $(#[doc = $doc:literal])+ $name:ident($type:ty) => $text:literal, $bytes:literal; )+) => {
        /// Type of a tensor's elements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DType { $( $(#[doc = $doc])+ $name, )+ }

        impl DType {
            /// Every type.
            pub const ALL: &'static [DType] = &[ $( DType::$name, )+ ];

            /// The name in manifests and messages, e.g. `f32`.
            pub fn as_str(self) -> &'static str { match self { $( DType::$name => $text, )+ } }

            /// The type with this name.
            pub fn parse(name: &str) -> Option<DType> { match name { $( $text => Some(DType::$name), )+ _ => None } }

            /// Bytes of one element; 0 for strings, which have no size of their own.
            pub fn size(self) -> usize { match self { $( DType::$name => $bytes, )+ } }
        }

        /// The elements of a tensor, row-major.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Data { $( $(#[doc = $doc])+ $name(Vec<$type>), )+ }

        impl Data {
            /// Type of the elements.
            pub fn dtype(&self) -> DType { match self { $( Data::$name(_) => DType::$name, )+ } }

            /// Number of elements.
            pub fn len(&self) -> usize { match self { $( Data::$name(v) => v.len(), )+ } }

            /// Whether there are no elements.
            pub fn is_empty(&self) -> bool { self.len() == 0 }

            /// No elements yet, room for `capacity`.
            fn with_capacity(dtype: DType, capacity: usize) -> Data {
                match dtype { $( DType::$name => Data::$name(Vec::with_capacity(capacity)), )+ }
            }

            /// Copies elements `range` of `from` to the end; false when the types differ.
            fn extend_from(&mut self, from: &Data, range: std::ops::Range<usize>) -> bool {
                match (self, from) {
                    $( (Data::$name(into), Data::$name(from)) => into.extend_from_slice(&from[range]), )+
                    _ => return false,
                }
                true
            }
        }
    };
}

elements! {
    /// 32-bit floating point.
    F32(f32) => "f32", 4;
    /// 64-bit floating point.
    F64(f64) => "f64", 8;
    /// 16-bit floating point.
    F16(f16) => "f16", 2;
    /// 16-bit floating point with the exponent of 32 bits.
    BF16(bf16) => "bf16", 2;
    /// Signed, 64 bits.
    I64(i64) => "i64", 8;
    /// Signed, 32 bits.
    I32(i32) => "i32", 4;
    /// Signed, 16 bits.
    I16(i16) => "i16", 2;
    /// Signed, 8 bits.
    I8(i8) => "i8", 1;
    /// Unsigned, 64 bits.
    U64(u64) => "u64", 8;
    /// Unsigned, 32 bits.
    U32(u32) => "u32", 4;
    /// Unsigned, 16 bits.
    U16(u16) => "u16", 2;
    /// Unsigned, 8 bits.
    U8(u8) => "u8", 1;
    /// True or false.
    Bool(bool) => "bool", 1;
    /// Text.
    Text(String) => "string", 0;
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A dense tensor: a shape and as many elements as its product says. No dimensions is a scalar.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// A tensor of this shape.
    ///
    /// # Errors
    /// `InvalidInput` when the product of the shape overflows or is not the number of elements, or
    /// when there are more than 16 dimensions.
    pub fn new(shape: Vec<usize>, data: Data) -> Result<Tensor> {
        if shape.len() > RANK_MAX {
            let message = format!("a tensor has at most {RANK_MAX} dimensions, this one has {}", shape.len());
            return Err(Error::new(Code::InvalidInput, message));
        }
        let count = element_count(&shape).ok_or_else(|| {
            Error::new(Code::InvalidInput, format!("the shape {shape:?} has more elements than memory"))
        })?;
        if count != data.len() {
            let message = format!("the shape {shape:?} asks for {count} values, there are {}", data.len());
            return Err(Error::new(Code::InvalidInput, message));
        }
        Ok(Tensor { shape, data })
    }

    /// A tensor of 32-bit floating point numbers; errors as [`Tensor::new`].
    pub fn f32(shape: Vec<usize>, values: Vec<f32>) -> Result<Tensor> {
        Tensor::new(shape, Data::F32(values))
    }

    /// The dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements, row-major.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// The elements, when they are 32-bit floating point.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(values) => Some(values),
            _ => None,
        }
    }

    /// Takes the tensor apart without copying.
    pub fn into_parts(self) -> (Vec<usize>, Data) {
        (self.shape, self.data)
    }

    /// Length of the first axis; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements in one row (one step along the first axis).
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Whether every floating point element is finite; other types always are.
    pub fn is_finite(&self) -> bool {
        match &self.data {
            Data::F32(values) => values.iter().all(|v| v.is_finite()),
            Data::F64(values) => values.iter().all(|v| v.is_finite()),
            Data::F16(values) => values.iter().all(|v| v.is_finite()),
            Data::BF16(values) => values.iter().all(|v| v.is_finite()),
            _ => true,
        }
    }

    /// A copy of rows `range` along the first axis.
    ///
    /// # Errors
    /// `InvalidInput` for a scalar and for a range outside the tensor.
    pub fn slice_rows(&self, range: std::ops::Range<usize>) -> Result<Tensor> {
        if self.shape.is_empty() || range.start > range.end || range.end > self.rows() {
            let message = format!("rows {range:?} of a tensor of shape {:?}", self.shape);
            return Err(Error::new(Code::InvalidInput, message));
        }
        let row = self.row_len();
        let mut shape = self.shape.clone();
        shape[0] = range.len();
        let mut data = Data::with_capacity(self.dtype(), range.len() * row);
        data.extend_from(&self.data, range.start * row..range.end * row);
        Tensor::new(shape, data)
    }

    /// Joins tensors along the first axis.
    ///
    /// # Errors
    /// `InvalidInput` when there is none, one is a scalar, or types or other dimensions differ.
    pub fn concat_rows(parts: &[&Tensor]) -> Result<Tensor> {
        let mismatch = |what: &str| Error::new(Code::InvalidInput, format!("cannot join tensors: {what}"));
        let first = parts.first().ok_or_else(|| mismatch("there is none"))?;
        let total = parts.iter().map(|part| part.data.len()).sum();
        let mut rows = 0;
        let mut data = Data::with_capacity(first.dtype(), total);
        for part in parts {
            if part.shape.is_empty() || part.shape[1..] != first.shape[1..] {
                return Err(mismatch("their shapes differ beyond the first axis"));
            }
            if !data.extend_from(&part.data, 0..part.data.len()) {
                return Err(mismatch("their element types differ"));
            }
            rows += part.rows();
        }
        let mut shape = first.shape.clone();
        shape[0] = rows;
        Tensor::new(shape, data)
    }
}

/// Product of the dimensions; `None` when it does not fit.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    // A zero anywhere makes the tensor empty, whatever the other dimensions multiply to.
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))
}

#[cfg(test)]
mod tests;
