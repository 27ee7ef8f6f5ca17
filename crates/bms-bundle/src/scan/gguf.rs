//! GGUF: header, key-value pairs, tensor table, aligned data.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, with the limits of
//! llama.cpp's reader. Chat templates are Jinja programs and are checked as such.

use std::collections::{BTreeMap, HashSet};

use crate::Severity;
use crate::scan::context::{Context, quote};
use crate::scan::{format, metadata, template};

/// Fewest bytes of one pair: key length, one character, type, one byte.
const PAIR_BYTES_MIN: u64 = 8 + 1 + 4 + 1;
/// Fewest bytes of one table entry: name length, axes, type, offset.
const ENTRY_BYTES_MIN: u64 = 8 + 4 + 4 + 8;
/// Bytes of a key.
const KEY_BYTES_MAX: u64 = 65_535;
/// Bytes of a tensor's name, llama.cpp's limit and then some.
const NAME_BYTES_MAX: u64 = 256;
/// Axes of one tensor.
const RANK_MAX: u32 = 4;
/// Arrays inside arrays; readers support none or few.
const ARRAY_DEPTH_MAX: usize = 2;
/// Where data begins unless the file says otherwise.
const ALIGNMENT_DEFAULT: u64 = 32;
/// The largest alignment that makes sense: a huge page.
const ALIGNMENT_MAX: u64 = 2 << 20;

/// Why a file was not read to its end.
enum Stop {
    /// It ends early.
    Truncated,
    /// It claims what cannot be.
    Bomb(String),
}

type Read<T> = Result<T, Stop>;

/// Scans a file that begins with `GGUF`.
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    match (Walk { bytes, at: 4, alignment: ALIGNMENT_DEFAULT, context }).file() {
        Ok(()) => {}
        Err(Stop::Truncated) => context.malformed("gguf-truncated", "", "the file ends inside its header"),
        Err(Stop::Bomb(message)) => context.attack("gguf-header", Severity::Medium, "", message),
    }
}

/// What a file says of itself, as far as it can be read.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Such as `llama` or `bert`.
    pub(crate) architecture: Option<String>,
    /// What people call the model.
    pub(crate) name: Option<String>,
    /// Its licence.
    pub(crate) licence: Option<String>,
    /// The quantisation: the mixture its maker names, otherwise the type of most weights.
    pub(crate) precision: &'static str,
}

/// What a file says of itself. Of a damaged or hostile file that is what comes before the damage, and nothing is
/// reported: the scan does that.
pub(crate) fn facts(bytes: &[u8]) -> Facts {
    let mut context = Context::new("");
    let mut facts = Facts { architecture: None, name: None, licence: None, precision: "mixed" };
    if bytes.starts_with(b"GGUF") {
        let mut walk = Walk { bytes, at: 4, alignment: ALIGNMENT_DEFAULT, context: &mut context };
        let _ = walk.facts(&mut facts);
    }
    facts
}

struct Walk<'a, 'c> {
    bytes: &'a [u8],
    at: usize,
    alignment: u64,
    context: &'c mut Context,
}

/// A tensor's place in the data.
struct Tensor<'a> {
    name: &'a [u8],
    kind: u32,
    begin: u64,
    bytes: u64,
}

impl<'a> Walk<'a, '_> {
    fn file(&mut self) -> Read<()> {
        let (tensors, pairs) = self.counts()?;
        let mut keys = HashSet::new();
        for _ in 0..pairs {
            if self.context.is_full() {
                return Ok(());
            }
            let key = self.pair()?;
            if !keys.insert(key) {
                let message = format!("the key {} is given twice", lossy(key));
                self.context.attack("gguf-repeated", Severity::Medium, "", message);
            }
        }
        let mut table = Vec::new();
        let mut names = HashSet::new();
        for _ in 0..tensors {
            if self.context.is_full() {
                return Ok(());
            }
            let tensor = self.entry()?;
            if !names.insert(tensor.name) {
                let message = format!("the tensor {} is given twice", lossy(tensor.name));
                self.context.attack("gguf-repeated", Severity::Medium, "", message);
            }
            table.push(tensor);
        }
        self.layout(&mut table);
        Ok(())
    }

    /// The numbers of tensors and pairs.
    fn counts(&mut self) -> Read<(u64, u64)> {
        let version = self.u32()?;
        if !(1..=3).contains(&version) {
            return bomb(format!(
                "the version is {version}, readers take it for another byte order or crash"
            ));
        }
        let (tensors, pairs) = match version {
            1 => (u64::from(self.u32()?), u64::from(self.u32()?)),
            _ => (self.u64()?, self.u64()?),
        };
        self.count("key-value pairs", pairs, PAIR_BYTES_MIN)?;
        self.count("tensors", tensors, ENTRY_BYTES_MIN)?;
        Ok((tensors, pairs))
    }

    /// Reads what the file says of itself, until it cannot be read.
    fn facts(&mut self, facts: &mut Facts) -> Read<()> {
        let (tensors, pairs) = self.counts()?;
        let mut mixture = None;
        for _ in 0..pairs {
            let key = self.string("a key", KEY_BYTES_MAX)?;
            let kind = self.u32()?;
            if key == b"general.file_type" && kind == 4 {
                mixture = mixture_name(self.u32()?);
                continue;
            }
            let text = self.value(kind, "", 0)?.map(|text| String::from_utf8_lossy(text).into_owned());
            match key {
                b"general.architecture" => facts.architecture = text,
                b"general.name" => facts.name = text,
                b"general.license" => facts.licence = text,
                _ => {}
            }
        }
        let mut bytes_of = BTreeMap::<u32, u64>::new();
        for _ in 0..tensors {
            let tensor = self.entry()?;
            *bytes_of.entry(tensor.kind).or_default() += tensor.bytes;
        }
        let most = bytes_of.into_iter().max_by_key(|(_, bytes)| *bytes).and_then(|(kind, _)| type_name(kind));
        facts.precision = mixture.or(most).unwrap_or(facts.precision);
        Ok(())
    }

    /// Refuses counts that the rest of the file cannot hold, before anything is allocated.
    fn count(&self, what: &str, count: u64, bytes_min: u64) -> Read<()> {
        match count.checked_mul(bytes_min) {
            Some(bytes) if bytes <= self.left() => Ok(()),
            _ => bomb(format!("{count} {what} are claimed, the file has {} bytes left", self.left())),
        }
    }

    fn pair(&mut self) -> Read<&'a [u8]> {
        let key = self.string("a key", KEY_BYTES_MAX)?;
        let kind = self.u32()?;
        if key == b"general.alignment" {
            return self.alignment(kind).map(|()| key);
        }
        let name = lossy(key);
        if let Some(text) = self.value(kind, &name, 0)? {
            let text = String::from_utf8_lossy(text);
            if is_template(key) {
                template::scan(&name, &text, self.context);
            } else {
                metadata::scan(&name, &text, self.context);
            }
        }
        Ok(key)
    }

    fn alignment(&mut self, kind: u32) -> Read<()> {
        if kind != 4 {
            return bomb(format!("the alignment has the type {kind}"));
        }
        let alignment = u64::from(self.u32()?);
        if !alignment.is_power_of_two() || !(8..=ALIGNMENT_MAX).contains(&alignment) {
            return bomb(format!("the alignment is {alignment}"));
        }
        self.alignment = alignment;
        Ok(())
    }

    /// Skips a value; a string is returned.
    fn value(&mut self, kind: u32, key: &str, depth: usize) -> Read<Option<&'a [u8]>> {
        match kind {
            8 => self.string("a text", u64::MAX).map(Some),
            9 => self.array(key, depth).map(|()| None),
            _ => match width(kind) {
                Some(width) => self.take(width).map(|_| None),
                None => bomb(format!("the value of {key} has the unknown type {kind}")),
            },
        }
    }

    fn array(&mut self, key: &str, depth: usize) -> Read<()> {
        let kind = self.u32()?;
        let length = self.u64()?;
        if ARRAY_DEPTH_MAX <= depth {
            return bomb(format!("the arrays of {key} are nested over {ARRAY_DEPTH_MAX} deep"));
        }
        // A string has a length of eight bytes at least, an array a type besides.
        let element = match kind {
            8 => 8,
            9 => 12,
            _ => width(kind)
                .ok_or_else(|| Stop::Bomb(format!("the array {key} has the unknown type {kind}")))?,
        };
        self.count("array elements", length, element)?;
        if let (0..=7 | 10..=12, Some(bytes)) = (kind, length.checked_mul(element)) {
            return self.take(bytes).map(drop);
        }
        for _ in 0..length {
            let text = self.value(kind, key, depth + 1)?;
            if let Some(text) = text.filter(|_| is_template(key.as_bytes())) {
                template::scan(key, &String::from_utf8_lossy(text), self.context);
            }
        }
        Ok(())
    }

    fn entry(&mut self) -> Read<Tensor<'a>> {
        let name = self.string("a tensor's name", NAME_BYTES_MAX)?;
        let rank = self.u32()?;
        if RANK_MAX < rank {
            return bomb(format!("the tensor {} has {rank} axes", lossy(name)));
        }
        let mut values = 1_u64;
        let mut row = 1;
        for axis in 0..rank {
            let dim = self.u64()?;
            // Readers hold dimensions and their product in signed integers.
            let product = values.checked_mul(dim).filter(|product| *product <= i64::MAX as u64);
            let Some(product) = product.filter(|_| dim <= i64::MAX as u64) else {
                return bomb(format!("the size of the tensor {} overflows", lossy(name)));
            };
            values = product;
            if axis == 0 {
                row = dim;
            }
        }
        let kind = self.u32()?;
        let Some((block, block_bytes)) = block(kind) else {
            return bomb(format!("the tensor {} has the unknown type {kind}", lossy(name)));
        };
        if row % block != 0 {
            return bomb(format!("rows of the tensor {} are not whole blocks", lossy(name)));
        }
        let begin = self.u64()?;
        let bytes = (values / block).checked_mul(block_bytes);
        match bytes.filter(|bytes| begin.checked_add(*bytes).is_some()) {
            Some(bytes) => Ok(Tensor { name, kind, begin, bytes }),
            None => bomb(format!("the place of the tensor {} overflows", lossy(name))),
        }
    }

    /// Checks that the tensors lie side by side in the data and that nothing else does.
    fn layout(&mut self, table: &mut [Tensor<'_>]) {
        let start = (self.at as u64).next_multiple_of(self.alignment).min(self.bytes.len() as u64);
        let data = &self.bytes[start as usize..];
        table.sort_by_key(|tensor| (tensor.begin, tensor.bytes));
        let mut end = 0_u64;
        for tensor in table.iter() {
            let place = format!("tensor {}", lossy(tensor.name));
            let next = end.next_multiple_of(self.alignment);
            if tensor.begin % self.alignment != 0 {
                self.context.attack("gguf-offset", Severity::Medium, &place, "a tensor is not aligned");
            }
            if tensor.begin < end {
                self.context.attack("gguf-overlap", Severity::High, &place, "tensors share bytes");
            } else if next < tensor.begin {
                let message = format!("{} bytes before a tensor belong to none", tensor.begin - next);
                self.context.attack("gguf-hole", Severity::High, &place, message);
            }
            end = end.max(tensor.begin + tensor.bytes);
        }
        let size = data.len() as u64;
        if size < end {
            let message = format!("tensors reach to byte {end} of the data, which ends at {size}");
            self.context.malformed("gguf-truncated", "", message);
        } else if end.next_multiple_of(self.alignment) < size {
            let rest = &data[end.next_multiple_of(self.alignment) as usize..];
            let hidden = format::identify(rest);
            let message = format!("{} bytes after the tensors belong to none ({hidden})", rest.len());
            self.context.attack("gguf-trailing", Severity::High, "", message);
        } else if format::identify(&data[end as usize..]) == format::Format::Executable {
            self.context.attack("gguf-trailing", Severity::High, "", "a program follows the tensors");
        }
    }

    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    fn take(&mut self, length: u64) -> Read<&'a [u8]> {
        if self.left() < length {
            return Err(Stop::Truncated);
        }
        let from = self.at;
        self.at += length as usize;
        Ok(&self.bytes[from..self.at])
    }

    fn u32(&mut self) -> Read<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn u64(&mut self) -> Read<u64> {
        Ok(u64::from(self.u32()?) | u64::from(self.u32()?) << 32)
    }

    fn string(&mut self, what: &str, bytes_max: u64) -> Read<&'a [u8]> {
        let length = self.u64()?;
        // Beyond any file is a lie; within it, the file may have been cut.
        if bytes_max.min(1 << 32) < length {
            return bomb(format!("{what} claims {length} bytes"));
        }
        self.take(length)
    }
}

fn bomb<T>(message: String) -> Read<T> {
    Err(Stop::Bomb(message))
}

fn lossy(bytes: &[u8]) -> String {
    quote(&String::from_utf8_lossy(bytes))
}

fn is_template(key: &[u8]) -> bool {
    key.starts_with(b"tokenizer.chat_template")
}

/// Bytes of a fixed-width value type.
fn width(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

/// Values and bytes of one block of a tensor type, from `ggml.h`.
fn block(kind: u32) -> Option<(u64, u64)> {
    Some(match kind {
        0 | 26 => (1, 4),
        1 | 25 | 30 => (1, 2),
        2 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        9 => (32, 36),
        10 => (256, 84),
        11 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        16 => (256, 66),
        17 => (256, 74),
        18 => (256, 98),
        19 => (256, 50),
        20 => (32, 18),
        21 => (256, 110),
        22 => (256, 82),
        23 => (256, 136),
        24 => (1, 1),
        27 | 28 => (1, 8),
        29 => (256, 56),
        34 => (256, 54),
        35 => (256, 66),
        39 => (32, 17),
        40 => (64, 36),
        _ => return None,
    })
}

/// What makers of GGUF files call a mixture of types, from `llama.h`.
fn mixture_name(mixture: u32) -> Option<&'static str> {
    Some(match mixture {
        0 => "f32",
        1 => "f16",
        2 => "q4_0",
        3 => "q4_1",
        7 => "q8_0",
        8 => "q5_0",
        9 => "q5_1",
        10 => "q2_k",
        11 => "q3_k_s",
        12 => "q3_k_m",
        13 => "q3_k_l",
        14 => "q4_k_s",
        15 => "q4_k_m",
        16 => "q5_k_s",
        17 => "q5_k_m",
        18 => "q6_k",
        25 => "iq4_nl",
        30 => "iq4_xs",
        32 => "bf16",
        _ => return None,
    })
}

/// The name of a tensor type, from `ggml.h`.
fn type_name(kind: u32) -> Option<&'static str> {
    Some(match kind {
        0 => "f32",
        1 => "f16",
        2 => "q4_0",
        3 => "q4_1",
        6 => "q5_0",
        7 => "q5_1",
        8 => "q8_0",
        10 => "q2_k",
        11 => "q3_k",
        12 => "q4_k",
        13 => "q5_k",
        14 => "q6_k",
        20 => "iq4_nl",
        23 => "iq4_xs",
        30 => "bf16",
        _ => return None,
    })
}
