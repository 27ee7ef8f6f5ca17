//! What may happen to a picture, how often and how far.

use bms_wire::{Code, Error, Result};
use serde::{Deserialize, Serialize};

/// The operations of an augmentation with their probabilities (0 to 1) and ranges.
///
/// Fields left out do nothing, so a plan in TOML names only what it wants:
///
/// ```
/// let plan: bms_data::augment::Plan = toml::from_str(r#"
///     flip_horizontal = 0.5
///     [rotate]
///     probability = 1.0
///     degrees = { low = -10.0, high = 10.0 }
/// "#).unwrap();
/// assert!(plan.validate().is_ok());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// Probability of a left-right flip.
    pub flip_horizontal: f32,
    /// Probability of a top-bottom flip.
    pub flip_vertical: f32,
    /// Rotation about the centre.
    pub rotate: Option<Rotate>,
    /// Shift and zoom: a crop at another place and scale.
    pub crop: Option<Crop>,
    /// Every pixel times a factor.
    pub brightness: Option<Tone>,
    /// Every pixel's distance from the mean times a factor.
    pub contrast: Option<Tone>,
    /// Gaussian noise on every value.
    pub noise: Option<Noise>,
    /// Value of pixels that come from outside the picture, in every channel.
    pub fill: u8,
}

/// From `low` to `high`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// Smallest value.
    pub low: f32,
    /// Largest value.
    pub high: f32,
}

/// Rotation about the centre.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// How often.
    pub probability: f32,
    /// Angle in degrees, counter-clockwise.
    pub degrees: Range,
}

/// Shift and zoom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crop {
    /// How often.
    pub probability: f32,
    /// Largest shift along each axis, as a share of the side.
    pub shift: f32,
    /// Magnification; 2 shows the middle half, 0.5 makes it half as large.
    pub zoom: Range,
}

/// A factor on brightness or contrast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tone {
    /// How often.
    pub probability: f32,
    /// The factor; 1 changes nothing.
    pub factor: Range,
}

/// Gaussian noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Noise {
    /// How often.
    pub probability: f32,
    /// Standard deviation, as a share of the full scale.
    pub deviation: f32,
}

impl Plan {
    /// For small handwritten digits: slight rotation, shift, zoom, tone and noise; no flips, which make other digits.
    pub fn digits() -> Plan {
        Plan {
            rotate: Some(Rotate { probability: 0.8, degrees: Range { low: -12.0, high: 12.0 } }),
            crop: Some(Crop { probability: 0.8, shift: 0.1, zoom: Range { low: 0.88, high: 1.15 } }),
            brightness: Some(Tone { probability: 0.5, factor: Range { low: 0.75, high: 1.25 } }),
            noise: Some(Noise { probability: 0.3, deviation: 0.03 }),
            ..Plan::default()
        }
    }

    /// For photographs: left-right flip, slight rotation, crop, tone and noise.
    pub fn photos() -> Plan {
        Plan {
            flip_horizontal: 0.5,
            rotate: Some(Rotate { probability: 0.5, degrees: Range { low: -10.0, high: 10.0 } }),
            crop: Some(Crop { probability: 0.8, shift: 0.08, zoom: Range { low: 1.0, high: 1.3 } }),
            brightness: Some(Tone { probability: 0.5, factor: Range { low: 0.7, high: 1.3 } }),
            contrast: Some(Tone { probability: 0.5, factor: Range { low: 0.7, high: 1.3 } }),
            noise: Some(Noise { probability: 0.2, deviation: 0.02 }),
            ..Plan::default()
        }
    }

    /// The preset of this name: `digits` or `photos`.
    pub fn preset(name: &str) -> Option<Plan> {
        match name {
            "digits" => Some(Plan::digits()),
            "photos" => Some(Plan::photos()),
            _ => None,
        }
    }

    /// Checks that every probability and range makes sense.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] naming the first that does not.
    pub fn validate(&self) -> Result<()> {
        share("flip_horizontal", self.flip_horizontal)?;
        share("flip_vertical", self.flip_vertical)?;
        if let Some(rotate) = &self.rotate {
            share("rotate.probability", rotate.probability)?;
            range("rotate.degrees", rotate.degrees, -360.0, 360.0)?;
        }
        if let Some(crop) = &self.crop {
            share("crop.probability", crop.probability)?;
            share("crop.shift", crop.shift)?;
            range("crop.zoom", crop.zoom, 0.1, 10.0)?;
        }
        for (name, tone) in [("brightness", &self.brightness), ("contrast", &self.contrast)] {
            if let Some(tone) = tone {
                share(name, tone.probability)?;
                range(name, tone.factor, 0.0, 10.0)?;
            }
        }
        if let Some(noise) = &self.noise {
            share("noise.probability", noise.probability)?;
            share("noise.deviation", noise.deviation)?;
        }
        Ok(())
    }
}

fn share(name: &str, value: f32) -> Result<()> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::new(Code::InvalidRequest, format!("`{name}` is {value}, not between 0 and 1")))
}

fn range(name: &str, range: Range, min: f32, max: f32) -> Result<()> {
    if min <= range.low && range.low <= range.high && range.high <= max {
        return Ok(());
    }
    let Range { low, high } = range;
    Err(Error::new(
        Code::InvalidRequest,
        format!("`{name}` is {low} to {high}, not a range within {min} to {max}"),
    ))
}
