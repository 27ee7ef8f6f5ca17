//! Reading the protocol-buffer wire format in place, without a schema and without copying.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>. Lengths are checked against what
//! is left before anything is sliced, so the cost is proportional to the bytes there are,
//! whatever they claim.

/// One field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1 or 5; nothing here needs the value.
    Fixed,
    /// Wire type 2: text, bytes, a message or packed numbers.
    Bytes(&'a [u8]),
}

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A field claims more bytes than there are.
    Truncated,
    /// Not the wire format.
    Malformed(&'static str),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Fault::Truncated => "it ends inside a field",
            Fault::Malformed(why) => why,
        })
    }
}

/// Iterates over the fields of one message.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    left: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of the message `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { left: bytes }
    }

    /// The next tag: field number and wire type. For telling formats apart.
    fn tag(&mut self) -> Result<(u32, u8), Fault> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Fault::Malformed("a field number is too large"))?;
        match number {
            1..0x2000_0000 => Ok((number, (tag & 7) as u8)),
            _ => Err(Fault::Malformed("a field number is out of range")),
        }
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.left.split_first().ok_or(Fault::Truncated)?;
            self.left = rest;
            if shift == 63 && 1 < byte {
                return Err(Fault::Malformed("a number has more than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Fault::Malformed("a number has more than 64 bits"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Fault> {
        let length = usize::try_from(length).map_err(|_| Fault::Truncated)?;
        let (taken, rest) = self.left.split_at_checked(length).ok_or(Fault::Truncated)?;
        self.left = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), Fault> {
        let (number, wire) = self.tag()?;
        let value = match wire {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Fault::Malformed("a field has an unknown wire type")),
        };
        Ok((number, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            // Nothing after a fault can be trusted.
            self.left = &[];
        }
        Some(field)
    }
}

/// Numbers of a packed or single repeated integer field.
pub(crate) fn integers(value: Value<'_>) -> impl Iterator<Item = Result<u64, Fault>> {
    let (single, packed) = match value {
        Value::Varint(number) => (Some(Ok(number)), &[][..]),
        Value::Bytes(bytes) => (None, bytes),
        Value::Fixed => (Some(Err(Fault::Malformed("a number has an unexpected wire type"))), &[][..]),
    };
    let mut fields = Fields::new(packed);
    let rest = std::iter::from_fn(move || match fields.left.is_empty() {
        true => None,
        false => {
            let number = fields.varint();
            if number.is_err() {
                fields.left = &[];
            }
            Some(number)
        }
    });
    single.into_iter().chain(rest)
}

/// The field numbers and wire types at the start of a message, with the bytes from the value on,
/// as far as they can be read; a truncated last field is included.
pub(crate) fn outline(bytes: &[u8]) -> impl Iterator<Item = (u32, u8, &[u8])> {
    let mut fields = Fields::new(bytes);
    std::iter::from_fn(move || {
        if fields.left.is_empty() {
            return None;
        }
        let mut value = fields.clone();
        let (number, wire) = value.tag().ok()?;
        if fields.field().is_err() {
            fields.left = &[];
        }
        Some((number, wire, value.left))
    })
}

#[cfg(test)]
mod tests;
