//! One picture in memory.

use std::io::Cursor;

use bms_wire::{Code, Error, Result, limits};
use image::codecs::png::PngEncoder;
use image::{
    ColorType, DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageFormat, ImageReader,
};

/// A picture of 8-bit grey or RGB pixels.
///
/// The fields are public so that pixels can be worked on in place; functions of this crate that take
/// one check with [`Image::check`] that they fit each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 1 (grey) or 3 (RGB).
    pub channels: u8,
    /// Row-major, channels innermost (HWC); `width * height * channels` bytes.
    pub pixels: Vec<u8>,
}

impl Image {
    /// A picture of these pixels.
    ///
    /// # Errors
    /// See [`Image::check`].
    pub fn new(width: u32, height: u32, channels: u8, pixels: Vec<u8>) -> Result<Image> {
        let image = Image { width, height, channels, pixels };
        image.check()?;
        Ok(image)
    }

    /// Whether sides, channels and pixels fit each other and the limits.
    ///
    /// # Errors
    /// [`Code::InvalidInput`] for an empty side, other channels than 1 or 3, or a wrong number of
    /// pixels; [`Code::TooLarge`] over [`limits::IMAGE_SIDE_MAX`] or [`limits::IMAGE_PIXELS_MAX`].
    pub fn check(&self) -> Result<()> {
        check_sides(self.width, self.height)?;
        if self.channels != 1 && self.channels != 3 {
            let message = format!("a picture has 1 or 3 channels, not {}", self.channels);
            return Err(Error::new(Code::InvalidInput, message));
        }
        let expected = self.width as usize * self.height as usize * usize::from(self.channels);
        if self.pixels.len() != expected {
            let message = format!(
                "a {}x{} picture of {} channels has {expected} values, not {}",
                self.width,
                self.height,
                self.channels,
                self.pixels.len()
            );
            return Err(Error::new(Code::InvalidInput, message));
        }
        Ok(())
    }

    /// Decodes a PNG or JPEG, told apart by content.
    ///
    /// Palettes are expanded, 16-bit values rounded to 8. Transparency is dropped and the
    /// orientation an EXIF tag asks for is not applied, as Pillow's `convert("RGB")` does.
    ///
    /// # Errors
    /// [`Code::InvalidInput`] when the bytes are no PNG or JPEG, or damaged; [`Code::TooLarge`] when
    /// the picture is over [`limits::IMAGE_SIDE_MAX`] or [`limits::IMAGE_PIXELS_MAX`], before its
    /// pixels are decoded.
    pub fn decode(bytes: &[u8]) -> Result<Image> {
        let format = image::guess_format(bytes).ok();
        let Some(format @ (ImageFormat::Png | ImageFormat::Jpeg)) = format else {
            return Err(Error::new(Code::InvalidInput, "the picture is neither PNG nor JPEG")
                .hint("Convert it to PNG or JPEG."));
        };
        let mut decoder =
            ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(undecodable)?;
        let (width, height) = decoder.dimensions();
        check_sides(width, height)?;
        let mut bounds = image::Limits::no_limits();
        // 16-bit RGBA is the widest pixel; as much again for the decoder's own tables.
        bounds.max_alloc = Some(limits::IMAGE_PIXELS_MAX * 16);
        decoder.set_limits(bounds).map_err(undecodable)?;
        let grey =
            matches!(decoder.color_type(), ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16);
        let decoded = DynamicImage::from_decoder(decoder).map_err(undecodable)?;
        let (channels, pixels) = match grey {
            true => (1, decoded.into_luma8().into_raw()),
            false => (3, decoded.into_rgb8().into_raw()),
        };
        Image::new(width, height, channels, pixels)
    }

    /// Encodes as PNG. Decoding gives the same picture back.
    ///
    /// # Errors
    /// See [`Image::check`].
    pub fn encode_png(&self) -> Result<Vec<u8>> {
        self.check()?;
        let colour = if self.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
        let mut out = Vec::new();
        PngEncoder::new(&mut out)
            .write_image(&self.pixels, self.width, self.height, colour)
            .map_err(|e| Error::new(Code::Internal, "the picture cannot be written as PNG").because(e))?;
        Ok(out)
    }

    /// The picture in grey: `(19595 R + 38470 G + 7471 B + 32768) / 65536`, which is ITU-R 601-2 luma
    /// as Pillow's `convert("L")` computes it.
    #[must_use]
    pub fn to_grey(&self) -> Image {
        if self.channels == 1 {
            return self.clone();
        }
        let luma = |p: &[u8]| {
            let sum = 19_595 * u32::from(p[0]) + 38_470 * u32::from(p[1]) + 7_471 * u32::from(p[2]);
            ((sum + 0x8000) >> 16) as u8
        };
        let pixels = self.pixels.chunks_exact(3).map(luma).collect();
        Image { width: self.width, height: self.height, channels: 1, pixels }
    }

    /// The picture in RGB; grey becomes three equal channels.
    #[must_use]
    pub fn to_rgb(&self) -> Image {
        if self.channels == 3 {
            return self.clone();
        }
        let pixels = self.pixels.iter().flat_map(|&v| [v, v, v]).collect();
        Image { width: self.width, height: self.height, channels: 3, pixels }
    }
}

fn check_sides(width: u32, height: u32) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::new(Code::InvalidInput, format!("a {width}x{height} picture has no pixels")));
    }
    let side_max = limits::IMAGE_SIDE_MAX;
    let pixels_max = limits::IMAGE_PIXELS_MAX;
    if side_max < width.max(height) || pixels_max < u64::from(width) * u64::from(height) {
        let message = format!(
            "a {width}x{height} picture is over the limit of {side_max} a side and {pixels_max} pixels"
        );
        return Err(Error::new(Code::TooLarge, message).hint("Scale it down first."));
    }
    Ok(())
}

fn undecodable(error: image::ImageError) -> Error {
    let code = match error {
        image::ImageError::Limits(_) => Code::TooLarge,
        _ => Code::InvalidInput,
    };
    Error::new(code, format!("the picture cannot be decoded: {error}")).because(error)
}

#[cfg(test)]
mod tests;
