//! The demo data: UCI optical handwritten digits, embedded.

use std::io::Read;

use bms_wire::{Code, Error, Result};
use flate2::read::GzDecoder;

use crate::{Image, ImageSample, ImageSet};

/// See `assets/README.md` for source and licence.
const ARCHIVE: &[u8] = include_bytes!("../assets/digits.csv.gz");
/// Pixels a side.
const SIDE: u32 = 8;
/// The largest value in the file.
const VALUE_MAX: u32 = 16;

/// 1797 handwritten digits, 8x8 grey, in the file's order, named `digit-00000` onwards.
///
/// The file's values 0 to 16 become `round(v * 255 / 16)`.
/// Source: E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine
/// Learning Repository, 1998, [doi:10.24432/C50P49](https://doi.org/10.24432/C50P49), CC BY 4.0.
///
/// # Errors
/// [`Code::Internal`] when the embedded file is damaged.
pub fn digits() -> Result<ImageSet> {
    let mut text = String::new();
    GzDecoder::new(ARCHIVE).read_to_string(&mut text).map_err(|e| damaged(0, e.to_string()))?;
    let samples = text
        .lines()
        .enumerate()
        .map(|(at, line)| parse(at, line).map_err(|reason| damaged(at + 1, reason)))
        .collect::<Result<_>>()?;
    Ok(ImageSet { labels: (0..10).map(|digit| digit.to_string()).collect(), samples })
}

fn parse(at: usize, line: &str) -> std::result::Result<ImageSample, String> {
    let values = line
        .split(',')
        .map(|field| field.trim().parse::<u32>().map_err(|e| e.to_string()))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    let Some((&label, pixels)) = values.split_last() else { return Err("empty line".to_owned()) };
    if 9 < label || pixels.iter().any(|&value| VALUE_MAX < value) {
        return Err("a value out of range".to_owned());
    }
    let pixels = pixels.iter().map(|&value| ((value * 255 + VALUE_MAX / 2) / VALUE_MAX) as u8).collect();
    let image = Image::new(SIDE, SIDE, 1, pixels).map_err(|e| e.to_string())?;
    Ok(ImageSample { name: format!("digit-{at:05}"), label: label as usize, image })
}

fn damaged(line: usize, reason: String) -> Error {
    Error::new(Code::Internal, format!("the embedded digits are damaged at line {line}: {reason}"))
}

#[cfg(test)]
mod tests;
