//! Recordings: WAV files.

use std::io::Cursor;

use bms_wire::{AudioInput, Code, Error, Result, limits};
use hound::{SampleFormat, WavReader};

/// The samples of a WAV file, −1 to 1: integers of 8 to 32 bits or floats; of several channels the mean.
///
/// # Errors
/// [`Code::InvalidInput`] when it is none, is damaged or has another sample rate than the pipeline;
/// [`Code::TooLarge`] over [`limits::AUDIO_SAMPLES_MAX`].
pub(crate) fn samples(pipeline: &AudioInput, file: &[u8]) -> Result<Vec<f32>> {
    let unreadable = |e: hound::Error| {
        Error::new(Code::InvalidInput, format!("the recording is no WAV file that can be read: {e}"))
            .because(e)
    };
    let mut reader = WavReader::new(Cursor::new(file)).map_err(unreadable)?;
    let spec = reader.spec();
    if spec.sample_rate != pipeline.sample_rate {
        let what = format!(
            "the recording has {} samples a second, the model takes {}",
            spec.sample_rate, pipeline.sample_rate
        );
        return Err(Error::new(Code::InvalidInput, what).hint("Resample it, with `ffmpeg -ar` or `sox -r`."));
    }
    let channels = usize::from(spec.channels.max(1));
    // What the file says and what it has are two things: no sample is shorter than a byte.
    if limits::AUDIO_SAMPLES_MAX < (reader.len() as usize).min(file.len()) / channels {
        return Err(Error::new(Code::TooLarge, "the recording is too long")
            .hint(format!("At most {} samples fit in one request.", limits::AUDIO_SAMPLES_MAX)));
    }
    let full = 1.0 / (1u64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
    let samples: Vec<f32> = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().collect::<std::result::Result<_, _>>(),
        SampleFormat::Int => {
            reader.samples::<i32>().map(|sample| sample.map(|value| value as f32 * full)).collect()
        }
    }
    .map_err(unreadable)?;
    if !samples.iter().all(|sample| sample.is_finite()) {
        return Err(Error::new(Code::InvalidInput, "the recording holds NaN or infinity"));
    }
    Ok(match channels {
        1 => samples,
        _ => {
            samples.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32).collect()
        }
    })
}
