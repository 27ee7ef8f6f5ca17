//! A picture through the steps of a pipeline to a tensor, and back: where a place of the prepared picture lies in the
//! original.

use std::borrow::Cow;

use bms_wire::{Code, Colour, Error, Layout, PictureInput, PictureStep, Result, limits};

use crate::Image;
use crate::resample::resize;

/// A picture as a graph takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// Values in the pipeline's layout.
    pub values: Vec<f32>,
    /// Lengths of one picture: channels, height and width in the pipeline's order.
    pub shape: Vec<usize>,
    /// Where things of it lie in the original.
    pub frame: Frame,
}

/// How an original lies in the prepared picture: `prepared = original * scale + offset`, in pixels from the upper left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// Columns of the original.
    pub width: u32,
    /// Rows of the original.
    pub height: u32,
    scale: [f64; 2],
    offset: [f64; 2],
}

impl Frame {
    /// The original itself.
    pub fn of(image: &Image) -> Frame {
        Frame { width: image.width, height: image.height, scale: [1.0; 2], offset: [0.0; 2] }
    }

    /// A place of the prepared picture in the original, no further than its edges.
    pub fn to_original(&self, x: f32, y: f32) -> [f32; 2] {
        let back = |at: f32, axis: usize, most: u32| {
            ((f64::from(at) - self.offset[axis]) / self.scale[axis]).clamp(0.0, f64::from(most)) as f32
        };
        [back(x, 0, self.width), back(y, 1, self.height)]
    }

    fn scaled(&mut self, x: f64, y: f64) {
        for (axis, by) in [x, y].into_iter().enumerate() {
            self.scale[axis] *= by;
            self.offset[axis] *= by;
        }
    }

    fn moved(&mut self, x: f64, y: f64) {
        self.offset[0] += x;
        self.offset[1] += y;
    }
}

/// Prepares a picture as a pipeline says: the steps on 8-bit pixels, then `(pixel / divisor - mean) / std`.
///
/// # Errors
/// [`Code::InvalidInput`] or [`Code::TooLarge`] for a picture the steps cannot be done with.
pub fn prepare_picture(input: &PictureInput, image: &Image) -> Result<Prepared> {
    image.check()?;
    let mut frame = Frame::of(image);
    let mut image = match input.colour {
        Colour::Grey => Cow::Owned(image.to_grey()),
        Colour::Rgb | Colour::Bgr if image.channels == 3 => Cow::Borrowed(image),
        Colour::Rgb | Colour::Bgr => Cow::Owned(image.to_rgb()),
    };
    let mut width = image.width;
    for step in &input.steps {
        let (next, padded) = take(step, &image, &mut frame)?;
        width = padded.max(next.width);
        image = Cow::Owned(next);
    }
    let values = values(input, &image, width as usize);
    let shape = input.shape(width as usize, image.height as usize);
    Ok(Prepared { values, shape, frame })
}

/// One step: the picture after it, and columns that are to be filled up with zeros.
fn take(step: &PictureStep, image: &Image, frame: &mut Frame) -> Result<(Image, u32)> {
    let (from_width, from_height) = (f64::from(image.width), f64::from(image.height));
    let mut to = |width: u32, height: u32, resampler| -> Result<Image> {
        check_size(width, height)?;
        frame.scaled(f64::from(width) / from_width, f64::from(height) / from_height);
        Ok(resize(image, width, height, resampler))
    };
    match *step {
        PictureStep::Resize { width, height, resampler } => Ok((to(width, height, resampler)?, 0)),
        PictureStep::ResizeShorter { pixels, resampler } => {
            let (short, long) = (image.width.min(image.height), image.width.max(image.height));
            // torchvision: int(size * long / short).
            let longer = u64::from(pixels) * u64::from(long) / u64::from(short);
            let longer = u32::try_from(longer).unwrap_or(u32::MAX);
            let is_upright = image.width <= image.height;
            let (width, height) = if is_upright { (pixels, longer) } else { (longer, pixels) };
            Ok((to(width, height, resampler)?, 0))
        }
        PictureStep::ResizeWithin { longest, multiple, resampler } => {
            let ratio = (f64::from(longest) / from_width.max(from_height)).min(1.0);
            // Python: int(round(int(side * ratio) / multiple) * multiple), where a half goes to the even number.
            let side = |from: f64| {
                let within = (from * ratio).trunc() / f64::from(multiple);
                (within.round_ties_even().max(1.0) as u32).saturating_mul(multiple)
            };
            Ok((to(side(from_width), side(from_height), resampler)?, 0))
        }
        PictureStep::ResizeLine { height, width_min, width_max, resampler } => {
            let width = (f64::from(height) * (from_width / from_height)).ceil();
            let width = (width as u32).clamp(1, width_max);
            Ok((to(width, height, resampler)?, width_min))
        }
        PictureStep::CenterCrop { width, height } => {
            if image.width < width || image.height < height {
                let what = format!(
                    "a picture of {}x{} has no middle of {width}x{height}",
                    image.width, image.height
                );
                return Err(Error::new(Code::InvalidInput, what).hint("Send a larger picture."));
            }
            // torchvision: int(round(difference / 2)), where a half goes to the even number.
            let margin = |from: u32, to: u32| (f64::from(from - to) / 2.0).round_ties_even() as u32;
            let (left, top) = (margin(image.width, width), margin(image.height, height));
            frame.moved(-f64::from(left), -f64::from(top));
            Ok((crop(image, left, top, width, height), 0))
        }
        PictureStep::Letterbox { width, height, fill, resampler } => {
            let ratio = (f64::from(width) / from_width).min(f64::from(height) / from_height);
            let side = |from: f64, most: u32| ((from * ratio).round_ties_even() as u32).clamp(1, most);
            let inner = to(side(from_width, width), side(from_height, height), resampler)?;
            let (left, top) = ((width - inner.width) / 2, (height - inner.height) / 2);
            frame.moved(f64::from(left), f64::from(top));
            Ok((framed(&inner, left, top, width, height, fill), 0))
        }
    }
}

/// A step may make a small picture large.
fn check_size(width: u32, height: u32) -> Result<()> {
    let pixels = u64::from(width) * u64::from(height);
    if limits::IMAGE_SIDE_MAX < width.max(height) || limits::IMAGE_PIXELS_MAX < pixels || pixels == 0 {
        let what = format!("the picture would become {width}x{height} pixels");
        return Err(Error::new(Code::TooLarge, what).hint("Send a picture of more usual proportions."));
    }
    Ok(())
}

/// A part that lies within the picture.
pub(crate) fn crop(image: &Image, left: u32, top: u32, width: u32, height: u32) -> Image {
    let channels = usize::from(image.channels);
    let (stride, line) = (image.width as usize * channels, width as usize * channels);
    let mut pixels = Vec::with_capacity(line * height as usize);
    for row in image.pixels.chunks_exact(stride).skip(top as usize).take(height as usize) {
        pixels.extend_from_slice(&row[left as usize * channels..][..line]);
    }
    Image { width, height, channels: image.channels, pixels }
}

/// A picture within a larger one of one grey level.
fn framed(image: &Image, left: u32, top: u32, width: u32, height: u32, fill: u8) -> Image {
    let channels = usize::from(image.channels);
    let (stride, line) = (width as usize * channels, image.width as usize * channels);
    let mut pixels = vec![fill; stride * height as usize];
    for (into, row) in pixels.chunks_exact_mut(stride).skip(top as usize).zip(image.pixels.chunks_exact(line))
    {
        into[left as usize * channels..][..line].copy_from_slice(row);
    }
    Image { width, height, channels: image.channels, pixels }
}

/// Numbers in the pipeline's order of channels and axes, zeros from the picture's right edge to `width`.
fn values(input: &PictureInput, image: &Image, width: usize) -> Vec<f32> {
    let channels = input.colour.channels();
    let source = |channel: usize| match input.colour {
        Colour::Bgr => channels - 1 - channel,
        Colour::Rgb | Colour::Grey => channel,
    };
    let scaled = |channel: usize| {
        let mean = input.mean.get(channel).copied().unwrap_or(0.0);
        let std = input.std.get(channel).copied().unwrap_or(1.0);
        std::array::from_fn::<f32, 256, _>(|pixel| (pixel as f32 / input.divisor - mean) / std)
    };
    // There are but 256 pixels.
    let tables: Vec<[f32; 256]> = (0..channels).map(scaled).collect();
    let (columns, rows) = (image.width as usize, image.height as usize);
    let mut out = vec![0.0; width * rows * channels];
    for (at, pixel) in image.pixels.chunks_exact(channels).enumerate() {
        let (x, y) = (at % columns, at / columns);
        for (channel, table) in tables.iter().enumerate() {
            let place = match input.layout {
                Layout::Nchw => (channel * rows + y) * width + x,
                Layout::Nhwc => (y * width + x) * channels + channel,
            };
            out[place] = table[usize::from(pixel[source(channel)])];
        }
    }
    out
}

#[cfg(test)]
mod tests;
