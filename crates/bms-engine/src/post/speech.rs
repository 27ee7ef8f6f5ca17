//! Probabilities of speech to times.

use bms_wire::{AudioInput, Segment, SpeechOutput};

/// How far below the threshold speech ends.
const HYSTERESIS: f32 = 0.15;

/// When somebody speaks, from one probability a window: `get_speech_timestamps_from_probs` of the Python package silero-vad
/// 6.2.3, without an upper limit of a segment.
pub(crate) fn segments(
    output: &SpeechOutput,
    audio: &AudioInput,
    probabilities: &[f32],
    samples: usize,
) -> Vec<Segment> {
    let in_samples = |ms: u32| f64::from(audio.sample_rate) * f64::from(ms) / 1000.0;
    let (speech_min, silence_min) = (in_samples(output.speech_ms), in_samples(output.silence_ms));
    let ends_below = (output.threshold - HYSTERESIS).max(0.01);
    let (mut found, mut start, mut silence) = (Vec::new(), None, None);
    for (index, &probability) in probabilities.iter().enumerate() {
        let at = index * audio.window;
        if output.threshold <= probability {
            silence = None;
            start = start.or(Some(at));
        }
        let Some(from) = start else { continue };
        if probability < ends_below {
            let end = *silence.get_or_insert(at);
            if silence_min <= (at - end) as f64 {
                if speech_min < (end - from) as f64 {
                    found.push((from, end));
                }
                (start, silence) = (None, None);
            }
        }
    }
    if let Some(from) = start.filter(|&from| speech_min < samples as f64 - from as f64) {
        found.push((from, samples));
    }
    padded(found, in_samples(output.pad_ms), samples)
        .into_iter()
        .map(|(from, to)| Segment {
            start: from as f64 / f64::from(audio.sample_rate),
            end: to as f64 / f64::from(audio.sample_rate),
        })
        .collect()
}

/// Segments widened on both sides; neighbours share what is too short for both.
fn padded(mut found: Vec<(usize, usize)>, pad: f64, samples: usize) -> Vec<(usize, usize)> {
    let earlier = |at: usize| (at as f64 - pad).max(0.0) as usize;
    let later = |at: usize| (at as f64 + pad).min(samples as f64) as usize;
    for index in 0..found.len() {
        if index == 0 {
            found[0].0 = earlier(found[0].0);
        }
        let Some(next) = found.get(index + 1).map(|next| next.0) else {
            found[index].1 = later(found[index].1);
            break;
        };
        let silence = next - found[index].1;
        if (silence as f64) < 2.0 * pad {
            found[index].1 += silence / 2;
            found[index + 1].0 -= silence / 2;
        } else {
            found[index].1 = later(found[index].1);
            found[index + 1].0 = earlier(next);
        }
    }
    found
}
