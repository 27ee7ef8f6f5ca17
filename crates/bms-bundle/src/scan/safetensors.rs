//! Safetensors: a length, a JSON header, and the tensors' bytes without gaps.
//!
//! Source: <https://github.com/huggingface/safetensors#format>. Its rules leave no room for
//! anything else, so every deviation is reported.

use crate::Severity;
use crate::json::{Json, REPEATED_KEY};
use crate::scan::context::{Context, quote};
use crate::scan::{format, metadata};

/// Bytes of a header. The reference implementation allows 100 MB; a hundred thousand tensors need
/// a tenth of that, and parsing takes a multiple.
const HEADER_BYTES_MAX: u64 = 32 << 20;
/// Axes of one tensor.
const RANK_MAX: usize = 64;
/// The key of the free text.
const METADATA: &str = "__metadata__";

/// One tensor as the header describes it.
struct Tensor<'a> {
    name: &'a str,
    begin: u64,
    end: u64,
}

/// Whether the file could be safetensors: after the length, a header that begins like one. The
/// length itself may be a lie.
pub(crate) fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return false };
    let Some(key) = rest.strip_prefix(b"{") else { return false };
    // Enough of it must be text, or raw numbers would pass for a header once in a while; more so
    // where the length does not fit the file.
    let length = u64::from_le_bytes(*length);
    let fits = length <= rest.len() as u64;
    let sample = &key[..key.len().min(length.saturating_sub(1).min(24) as usize)];
    let printable =
        sample.iter().all(|c| matches!(c, b' '..=b'~' | b'\n' | b'\r' | b'\t') || fits && 0x80 <= *c);
    printable && matches!(key.trim_ascii_start().first(), Some(b'"' | b'}'))
}

/// Scans a file that [`is_safetensors`].
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return };
    let length = u64::from_le_bytes(*length);
    if HEADER_BYTES_MAX < length {
        let message = format!("the header claims {length} bytes");
        return context.attack("safetensors-size-bomb", Severity::Medium, "", message);
    }
    let Some((header, data)) = rest.split_at_checked(length as usize) else {
        return context.malformed("safetensors-truncated", "", "the file ends inside its header");
    };
    let header = match Json::parse(header) {
        Ok(header @ Json::Object(_)) => header,
        Ok(_) => return context.malformed("safetensors-header", "", "the header is not an object"),
        Err(e) if e.to_string().contains(REPEATED_KEY) => {
            let message = "the header names a tensor twice, and readers take different ones";
            return context.attack("safetensors-repeated", Severity::Medium, "", message);
        }
        Err(e) => {
            return context.malformed("safetensors-header", "", format!("the header is malformed: {e}"));
        }
    };
    let mut tensors = Vec::new();
    for (name, value) in header.members() {
        if context.is_full() {
            return;
        }
        if name == METADATA {
            texts(value, context);
            continue;
        }
        match tensor(name, value) {
            Ok(tensor) => tensors.push(tensor),
            Err(why) => {
                let place = format!("tensor {name:?}");
                context.attack("safetensors-tensor", Severity::Medium, &place, why);
            }
        }
    }
    layout(&mut tensors, data, context);
}

fn texts(value: &Json, context: &mut Context) {
    if !matches!(value, Json::Object(_)) {
        context.malformed("safetensors-header", METADATA, "the metadata is not an object");
    }
    for (key, value) in value.members() {
        match value {
            Json::Text(text) => metadata::scan(key, text, context),
            _ => context.malformed("safetensors-header", METADATA, format!("{} is not text", quote(key))),
        }
    }
}

/// Reads one tensor and checks that shape, type and length agree.
fn tensor<'a>(name: &'a str, value: &Json) -> Result<Tensor<'a>, String> {
    let keys: Vec<&str> = value.members().iter().map(|(key, _)| key.as_str()).collect();
    if let Some(key) = keys.iter().find(|key| !["dtype", "shape", "data_offsets"].contains(key)) {
        return Err(format!("a tensor has the unknown entry {}", quote(key)));
    }
    let (Some(Json::Text(dtype)), Some(Json::Array(shape)), Some(Json::Array(offsets))) =
        (value.get("dtype"), value.get("shape"), value.get("data_offsets"))
    else {
        return Err("a tensor lacks type, shape or offsets".to_owned());
    };
    let bits = bits(dtype).ok_or_else(|| format!("a tensor has the unknown type {}", quote(dtype)))?;
    let [Json::Unsigned(begin), Json::Unsigned(end)] = offsets[..] else {
        return Err("a tensor's offsets are not two unsigned integers".to_owned());
    };
    if RANK_MAX < shape.len() {
        return Err(format!("a tensor has {} axes", shape.len()));
    }
    let mut total = bits;
    for dim in shape {
        let Json::Unsigned(dim) = dim else {
            return Err("a tensor's shape holds something else than unsigned integers".to_owned());
        };
        total = total.checked_mul(*dim).ok_or("a tensor's size overflows")?;
    }
    let bytes = end.checked_sub(begin).ok_or("a tensor ends before it begins")?;
    match total % 8 == 0 && total / 8 == bytes {
        true => Ok(Tensor { name, begin, end }),
        false => Err(format!("a tensor of {total} bits is stored in {bytes} bytes")),
    }
}

/// Checks that the tensors fill the data from end to end.
fn layout(tensors: &mut [Tensor<'_>], data: &[u8], context: &mut Context) {
    tensors.sort_by_key(|tensor| (tensor.begin, tensor.end));
    let mut at = 0;
    for tensor in tensors.iter() {
        if context.is_full() {
            return;
        }
        let place = format!("tensor {:?}", tensor.name);
        if tensor.begin < at {
            context.attack("safetensors-overlap", Severity::High, &place, "tensors share bytes");
        } else if at < tensor.begin {
            let message = format!("{} bytes before a tensor belong to none", tensor.begin - at);
            context.attack("safetensors-hole", Severity::High, &place, message);
        }
        at = at.max(tensor.end);
    }
    let size = data.len() as u64;
    if size < at {
        let message = format!("tensors reach to byte {at}, the data ends at {size}");
        context.malformed("safetensors-truncated", "", message);
    } else if at < size {
        let hidden = format::identify(&data[at as usize..]);
        let message = format!("{} bytes after the tensors belong to none ({hidden})", size - at);
        context.attack("safetensors-trailing", Severity::High, "", message);
    }
}

/// Bits of one element.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "I64" | "U64" | "F64" | "C64" => 64,
        _ => return None,
    })
}
