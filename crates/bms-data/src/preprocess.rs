//! Raw input to a model's tensor: the one implementation that training and serving share.

use std::borrow::Cow;

use bms_wire::{Code, Error, ImageInput, Result, TableInput, limits};

use crate::Image;
use crate::resize::bilinear_chw;

/// Prepares a picture: grey or RGB as `input` has one or three channels, resized to its size, then
/// `(p / 255 - mean) / std` with the channel's mean and std. The values come channel after channel,
/// row-major (CHW), in f32.
///
/// The conversion to grey is Pillow's (ITU-R 601-2), in 8 bits. Resizing is bilinear with two taps
/// at half-pixel centres and repeated edges, not rounded to 8 bits: torchvision's
/// `resize(float_tensor, size, antialias=False)`. A picture of the right size is not resampled.
///
/// # Errors
/// [`Code::InvalidInput`] or [`Code::TooLarge`] for a picture that is not one; [`Code::InvalidBundle`]
/// for a size of zero, other than one or three means, or a std that is not above zero.
///
/// # Example
/// ```
/// use bms_data::{Image, preprocess_image};
/// use bms_wire::ImageInput;
///
/// let input = ImageInput { width: 2, height: 1, mean: vec![0.5], std: vec![0.5] };
/// let image = Image::new(2, 1, 1, vec![0, 255])?;
/// assert_eq!(preprocess_image(&input, &image)?, [-1.0, 1.0]);
/// # Ok::<(), bms_wire::Error>(())
/// ```
pub fn preprocess_image(input: &ImageInput, image: &Image) -> Result<Vec<f32>> {
    check_image_input(input)?;
    image.check()?;
    let image = match (input.channels(), image.channels) {
        (1, 3) => Cow::Owned(image.to_grey()),
        (3, 1) => Cow::Owned(image.to_rgb()),
        _ => Cow::Borrowed(image),
    };
    let mut values = bilinear_chw(&image, input.width, input.height);
    let plane = input.width as usize * input.height as usize;
    for ((values, mean), std) in values.chunks_exact_mut(plane).zip(&input.mean).zip(&input.std) {
        for value in values {
            *value = (*value / 255.0 - mean) / std;
        }
    }
    Ok(values)
}

/// Prepares a row of numbers: `(x - mean) / std` per column.
///
/// # Errors
/// [`Code::InvalidInput`] when the row has not one number a column, or one is NaN or infinite, or
/// becomes so; [`Code::InvalidBundle`] when means or stds do not fit the columns.
pub fn preprocess_row(input: &TableInput, row: &[f32]) -> Result<Vec<f32>> {
    let columns = input.columns.len();
    if input.mean.len() != columns || input.std.len() != columns {
        return Err(malformed(format!(
            "{columns} columns come with {} means and {} standard deviations",
            input.mean.len(),
            input.std.len()
        )));
    }
    check_scale(&input.mean, &input.std)?;
    if row.len() != columns {
        let message = format!("the row has {} numbers, the model takes {columns}", row.len());
        return Err(Error::new(Code::InvalidInput, message)
            .hint(format!("The columns are {}.", input.columns.join(", "))));
    }
    let scales = input.mean.iter().zip(&input.std);
    row.iter()
        .zip(scales)
        .zip(&input.columns)
        .map(|((&value, (mean, std)), name)| {
            let scaled = (value - mean) / std;
            if scaled.is_finite() {
                return Ok(scaled);
            }
            Err(Error::new(
                Code::InvalidInput,
                format!("column `{name}` holds {value}, which cannot be used"),
            )
            .hint("Every value must be a finite number."))
        })
        .collect()
}

fn check_image_input(input: &ImageInput) -> Result<()> {
    let channels = input.channels();
    if channels != 1 && channels != 3 {
        return Err(malformed(format!("a picture input has 1 or 3 means, not {channels}")));
    }
    if input.std.len() != channels {
        let message = format!("{channels} means come with {} standard deviations", input.std.len());
        return Err(malformed(message));
    }
    check_scale(&input.mean, &input.std)?;
    let (width, height) = (input.width, input.height);
    // At most three channels of sides within u32: no overflow in u128.
    let values = u128::from(width) * u128::from(height) * channels as u128;
    if values == 0 || (limits::TENSOR_VALUES_MAX as u128) < values {
        return Err(malformed(format!(
            "a {width}x{height} input of {channels} channels is not within 1 to {} values",
            limits::TENSOR_VALUES_MAX
        )));
    }
    Ok(())
}

fn check_scale(mean: &[f32], std: &[f32]) -> Result<()> {
    if mean.iter().all(|m| m.is_finite()) && std.iter().all(|&s| s.is_finite() && 0.0 < s) {
        return Ok(());
    }
    Err(malformed("means must be finite and standard deviations above zero".to_owned()))
}

fn malformed(message: String) -> Error {
    Error::new(Code::InvalidBundle, format!("the pipeline is malformed: {message}"))
        .hint("Correct the pipeline in the bundle's manifest and sign the bundle again.")
}

#[cfg(test)]
mod tests;
