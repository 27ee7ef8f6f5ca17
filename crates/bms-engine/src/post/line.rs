//! Probabilities of characters to text.

use bms_nn::Tensor;
use bms_wire::{LineOutput, Outcome, Result};

use super::{broken, floats};

/// One line a row.
pub(crate) fn read(output: &LineOutput, tensor: &Tensor) -> Result<Vec<Outcome>> {
    let ([_, steps, classes], values) = floats::<3>(tensor)?;
    if classes != output.characters.len() + 1 {
        return Err(broken(format!(
            "{classes} classes for {} characters and a blank",
            output.characters.len()
        )));
    }
    let row = |values: &[f32]| {
        let (text, score) = greedy(&output.characters, values, classes);
        Outcome::Line { text, score }
    };
    Ok(values.chunks_exact((steps * classes).max(1)).map(row).collect())
}

/// The best class of each step; one that repeats the step before, and the blank, say nothing. The score is the mean
/// probability of what remains, 0 of nothing.
fn greedy(characters: &[String], values: &[f32], classes: usize) -> (String, f32) {
    let (mut text, mut sum, mut count, mut before) = (String::new(), 0.0f32, 0, 0);
    for step in values.chunks_exact(classes) {
        let best = (1..classes).fold(0, |best, class| if step[best] < step[class] { class } else { best });
        if best != before && best != 0 {
            text.push_str(&characters[best - 1]);
            sum += step[best];
            count += 1;
        }
        before = best;
    }
    (text, if count == 0 { 0.0 } else { sum / count as f32 })
}
