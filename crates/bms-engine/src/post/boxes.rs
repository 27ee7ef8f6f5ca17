//! A detector's candidates to boxes.

use bms_data::Frame;
use bms_nn::Tensor;
use bms_wire::{BoxLayout, BoxesOutput, Code, Error, FoundBox, Outcome, Result, limits};

use super::{broken, floats};

/// A candidate over the threshold, in pixels of the prepared picture.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    /// Left, top, right, bottom.
    edges: [f32; 4],
    score: f32,
    class: usize,
}

/// The boxes of each picture, in pixels of the original.
pub(super) fn read(output: &BoxesOutput, tensor: &Tensor, frames: &[Frame]) -> Result<Vec<Outcome>> {
    let (shape, values) = floats::<3>(tensor)?;
    let per_picture = shape[1] * shape[2];
    if shape[0] != frames.len() || per_picture == 0 {
        return Err(broken(format!("{} pictures became {shape:?}", frames.len())));
    }
    let picture = |(values, frame): (&[f32], &Frame)| {
        let candidates = match output.layout {
            BoxLayout::YoloV8 => yolo_v8(output, values, shape[1], shape[2])?,
            BoxLayout::YoloV5 => yolo_v5(output, values, shape[2])?,
            BoxLayout::Corners => corners(output, values, shape[2])?,
        };
        if limits::BOX_CANDIDATES_MAX < candidates.len() {
            let what = format!("{} candidates are over the threshold", candidates.len());
            return Err(Error::new(Code::TooLarge, what).hint("Raise `score_min` in the pipeline."));
        }
        let boxes =
            suppressed(output, candidates).into_iter().map(|found| placed(output, &found, frame)).collect();
        Ok(Outcome::Boxes { width: frame.width, height: frame.height, boxes })
    };
    values.chunks_exact(per_picture).zip(frames).map(picture).collect()
}

fn placed(output: &BoxesOutput, found: &Candidate, frame: &Frame) -> FoundBox {
    let [left, top] = frame.to_original(found.edges[0], found.edges[1]);
    let [right, bottom] = frame.to_original(found.edges[2], found.edges[3]);
    let label = output.labels.get(found.class).cloned().unwrap_or_default();
    FoundBox { label, score: found.score, left, top, right, bottom }
}

/// A box around a centre.
fn around(x: f32, y: f32, width: f32, height: f32) -> [f32; 4] {
    [x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0]
}

/// The best of some scores; of equal ones the first.
fn best(scores: impl Iterator<Item = f32>) -> Option<(usize, f32)> {
    scores.enumerate().fold(None, |best: Option<(usize, f32)>, (class, score)| match best {
        Some((_, most)) if score <= most => best,
        _ => Some((class, score)),
    })
}

fn yolo_v8(output: &BoxesOutput, values: &[f32], features: usize, count: usize) -> Result<Vec<Candidate>> {
    if features != 4 + output.labels.len() {
        return Err(broken(format!("{features} numbers a candidate for {} labels", output.labels.len())));
    }
    let at = |feature: usize, index: usize| values[feature * count + index];
    let candidate = |index: usize| {
        let (class, score) = best((4..features).map(|feature| at(feature, index)))?;
        let edges = || around(at(0, index), at(1, index), at(2, index), at(3, index));
        (output.score_min <= score).then(|| Candidate { edges: edges(), score, class })
    };
    Ok((0..count).filter_map(candidate).collect())
}

fn yolo_v5(output: &BoxesOutput, values: &[f32], features: usize) -> Result<Vec<Candidate>> {
    if features != 5 + output.labels.len() {
        return Err(broken(format!("{features} numbers a candidate for {} labels", output.labels.len())));
    }
    let candidate = |row: &[f32]| {
        let (class, score) = best(row[5..].iter().copied())?;
        let score = row[4] * score;
        (output.score_min <= score).then(|| Candidate {
            edges: around(row[0], row[1], row[2], row[3]),
            score,
            class,
        })
    };
    Ok(values.chunks_exact(features).filter_map(candidate).collect())
}

fn corners(output: &BoxesOutput, values: &[f32], features: usize) -> Result<Vec<Candidate>> {
    if features != 6 {
        return Err(broken(format!("{features} numbers a candidate, 6 are expected")));
    }
    let candidate = |row: &[f32]| {
        let (score, class) = (row[4], row[5]);
        let known = 0.0 <= class && class < output.labels.len() as f32;
        let edges = [row[0], row[1], row[2], row[3]];
        (output.score_min <= score && known).then_some(Candidate { edges, score, class: class as usize })
    };
    Ok(values.chunks_exact(6).filter_map(candidate).collect())
}

/// Greedy non-maximum suppression: the best, then the best of those that do not overlap it too much, and so on.
fn suppressed(output: &BoxesOutput, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        let mut rivals = kept.iter().filter(|other| output.across_labels || other.class == candidate.class);
        if rivals.all(|other| overlap(&other.edges, &candidate.edges) <= output.overlap_max) {
            kept.push(candidate);
            if kept.len() == output.boxes_max {
                break;
            }
        }
    }
    kept
}

/// Intersection over union; 0 of boxes without area.
fn overlap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let area = |edges: &[f32; 4]| (edges[2] - edges[0]).max(0.0) * (edges[3] - edges[1]).max(0.0);
    let common = area(&[a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    let union = area(a) + area(b) - common;
    if union <= 0.0 { 0.0 } else { common / union }
}
