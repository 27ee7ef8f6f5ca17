//! Values of the key-value pairs in front of the tensors.

use bms_wire::Result;

use super::broken;
use super::cursor::Cursor;

/// Bytes of one text value. A chat template or a licence is well below, a vocabulary is an array.
const TEXT_BYTES_MAX: usize = 64 << 20;
/// Arrays inside arrays: readers know none or few.
const ARRAY_DEPTH_MAX: usize = 2;

/// The type of a value, with the number the format gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ValueKind {
    /// Unsigned, 8 bits.
    U8 = 0,
    /// Signed, 8 bits.
    I8 = 1,
    /// Unsigned, 16 bits.
    U16 = 2,
    /// Signed, 16 bits.
    I16 = 3,
    /// Unsigned, 32 bits.
    U32 = 4,
    /// Signed, 32 bits.
    I32 = 5,
    /// Real, 32 bits.
    F32 = 6,
    /// One byte, 0 or 1.
    Bool = 7,
    /// Bytes, by the format's word UTF-8; a vocabulary may break it.
    Text = 8,
    /// Values of one kind.
    Array = 9,
    /// Unsigned, 64 bits.
    U64 = 10,
    /// Signed, 64 bits.
    I64 = 11,
    /// Real, 64 bits.
    F64 = 12,
}

impl ValueKind {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        use ValueKind as K;
        const KINDS: [ValueKind; 13] = [
            K::U8,
            K::I8,
            K::U16,
            K::I16,
            K::U32,
            K::I32,
            K::F32,
            K::Bool,
            K::Text,
            K::Array,
            K::U64,
            K::I64,
            K::F64,
        ];
        KINDS.get(number as usize).copied()
    }

    /// The fewest bytes a value takes, and whether all take that many.
    pub(super) fn width(self) -> (usize, bool) {
        match self {
            ValueKind::U8 | ValueKind::I8 | ValueKind::Bool => (1, true),
            ValueKind::U16 | ValueKind::I16 => (2, true),
            ValueKind::U32 | ValueKind::I32 | ValueKind::F32 => (4, true),
            ValueKind::U64 | ValueKind::I64 | ValueKind::F64 => (8, true),
            ValueKind::Text => (8, false),
            ValueKind::Array => (12, false),
        }
    }
}

/// One value, borrowed from the file.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are the kinds, which are documented")]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Text(&'a [u8]),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// The value as a whole number, when it is one and not negative.
    pub fn number(self) -> Option<u64> {
        match self {
            Value::U8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::U64(v) => Some(v),
            Value::I8(v) => v.try_into().ok(),
            Value::I16(v) => v.try_into().ok(),
            Value::I32(v) => v.try_into().ok(),
            Value::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// The value as a real number, when it is one.
    pub fn real(self) -> Option<f32> {
        match self {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// The value as text, when it is UTF-8.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Value::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Which kind it is.
    pub fn kind(&self) -> ValueKind {
        match self {
            Value::U8(_) => ValueKind::U8,
            Value::I8(_) => ValueKind::I8,
            Value::U16(_) => ValueKind::U16,
            Value::I16(_) => ValueKind::I16,
            Value::U32(_) => ValueKind::U32,
            Value::I32(_) => ValueKind::I32,
            Value::F32(_) => ValueKind::F32,
            Value::Bool(_) => ValueKind::Bool,
            Value::Text(_) => ValueKind::Text,
            Value::Array(_) => ValueKind::Array,
            Value::U64(_) => ValueKind::U64,
            Value::I64(_) => ValueKind::I64,
            Value::F64(_) => ValueKind::F64,
        }
    }

    /// Reads a value of the kind with this number; `key` is for errors.
    pub(super) fn read(cursor: &mut Cursor<'a>, key: &str) -> Result<Self> {
        let kind = kind(cursor.u32()?, key)?;
        read(cursor, kind, key, 0)
    }
}

fn kind(number: u32, key: &str) -> Result<ValueKind> {
    ValueKind::from_number(number)
        .ok_or_else(|| broken(format_args!("the value of `{key}` has the unknown type {number}")))
}

fn read<'a>(cursor: &mut Cursor<'a>, kind: ValueKind, key: &str, depth: usize) -> Result<Value<'a>> {
    Ok(match kind {
        ValueKind::U8 => Value::U8(cursor.u8()?),
        ValueKind::I8 => Value::I8(cursor.u8()? as i8),
        ValueKind::U16 => Value::U16(cursor.u16()?),
        ValueKind::I16 => Value::I16(cursor.u16()? as i16),
        ValueKind::U32 => Value::U32(cursor.u32()?),
        ValueKind::I32 => Value::I32(cursor.u32()? as i32),
        ValueKind::F32 => Value::F32(f32::from_bits(cursor.u32()?)),
        ValueKind::Bool => Value::Bool(cursor.u8()? != 0),
        ValueKind::Text => Value::Text(cursor.string(format_args!("the value of `{key}`"), TEXT_BYTES_MAX)?),
        ValueKind::Array => Value::Array(Array::read(cursor, key, depth)?),
        ValueKind::U64 => Value::U64(cursor.u64()?),
        ValueKind::I64 => Value::I64(cursor.u64()? as i64),
        ValueKind::F64 => Value::F64(f64::from_bits(cursor.u64()?)),
    })
}

/// Values of one kind, read where they lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    kind: ValueKind,
    length: usize,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    fn read(cursor: &mut Cursor<'a>, key: &str, depth: usize) -> Result<Self> {
        if ARRAY_DEPTH_MAX <= depth {
            return Err(broken(format_args!("the arrays of `{key}` lie more than {ARRAY_DEPTH_MAX} deep")));
        }
        let kind = kind(cursor.u32()?, key)?;
        let (width, fixed) = kind.width();
        let length = cursor.count(format_args!("elements of `{key}`"), width, usize::MAX)?;
        let from = cursor.at();
        if fixed {
            // No overflow: `count` has made sure that this many bytes are left.
            cursor.take(length * width)?;
        } else {
            for _ in 0..length {
                read(cursor, kind, key, depth + 1)?;
            }
        }
        Ok(Array { kind, length, bytes: cursor.since(from) })
    }

    /// Which kind its values are.
    pub fn kind(&self) -> ValueKind {
        self.kind
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes its values lie in, as the file has them.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Value<'a>> + use<'a> {
        let (kind, mut cursor) = (self.kind, Cursor::new(self.bytes));
        // The same bytes were read once with the same checks, so the value is never a stand-in. What is
        // inside an array here was inside another one there, so depth 0 lets through no less.
        (0..self.length).map(move |_| read(&mut cursor, kind, "", 0).unwrap_or(Value::Bool(false)))
    }
}
