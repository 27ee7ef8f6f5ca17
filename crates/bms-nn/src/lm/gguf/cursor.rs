//! Reads little-endian values off a slice and says where the file ends too early.

use bms_wire::Result;

use super::broken;

/// A position in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The bytes between `from` and here.
    pub(super) fn since(&self, from: usize) -> &'a [u8] {
        &self.bytes[from..self.at]
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        if self.left() < length {
            return Err(broken(format_args!(
                "it ends inside its header, {length} bytes are missing at byte {}",
                self.at
            )));
        }
        let from = self.at;
        self.at += length;
        Ok(&self.bytes[from..self.at])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of things of which each takes at least `bytes_min` bytes: the rest of the file bounds it.
    pub(super) fn count(
        &mut self,
        what: impl std::fmt::Display,
        bytes_min: usize,
        max: usize,
    ) -> Result<usize> {
        let count = self.u64()?;
        let room = self.left() / bytes_min.max(1);
        let count_max = room.min(max);
        match usize::try_from(count).ok().filter(|count| *count <= count_max) {
            Some(count) => Ok(count),
            None if room < max => {
                Err(broken(format_args!("it claims {count} {what}, and has room for {room} at most")))
            }
            None => Err(broken(format_args!("it has {count} {what}, the limit is {max}"))),
        }
    }

    /// The bytes of a string with its length in front.
    pub(super) fn string(&mut self, what: impl std::fmt::Display, bytes_max: usize) -> Result<&'a [u8]> {
        let length = self.u64()?;
        match usize::try_from(length).ok().filter(|length| *length <= bytes_max.min(self.left())) {
            Some(length) => self.take(length),
            None => Err(broken(format_args!(
                "{what} claims {length} bytes, at most {} are possible",
                bytes_max.min(self.left())
            ))),
        }
    }
}
