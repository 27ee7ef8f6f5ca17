//! The choice of one token from its logits.
//!
//! In this order: biases, penalties, forbidden tokens, the constraint's mask, log-probabilities, temperature, top-k,
//! top-p among these, min-p. The sums and exponentials are this file's own, so that a seed gives the same token on
//! every platform.

use std::collections::{HashMap, HashSet};

use bms_wire::{Code, Error, Result};
use llguidance::toktrie::SimpleVob;

use crate::lm::Sampling;
use crate::lm::random::uniform;

/// A chosen token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) token: u32,
    pub(crate) logprob: Option<f32>,
    pub(crate) top: Vec<(u32, f32)>,
}

/// Buffers of one thread that samples.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    weights: Vec<f32>,
    candidates: Vec<(f32, u32)>,
}

/// What one choice depends on beside the logits.
pub(crate) struct Place<'a> {
    /// The number of the token within its answer.
    pub(crate) position: usize,
    /// Tokens the constraint admits.
    pub(crate) allowed: Option<&'a SimpleVob>,
    /// Tokens that must not come.
    pub(crate) forbidden: &'a [u32],
    /// Whether log-probabilities are wanted, and of how many beside the chosen one.
    pub(crate) logprobs: Option<usize>,
}

/// How one answer's tokens are chosen, and what it holds so far.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    sampling: Sampling,
    seed: u64,
    index: usize,
    /// Tokens of the prompt, when a penalty asks for them.
    prompt: HashSet<u32>,
    /// Tokens of the answer, when a penalty asks for them.
    counts: HashMap<u32, u32>,
}

impl Sampler {
    pub(crate) fn new(sampling: Sampling, seed: u64, index: usize, prompt: &[u32]) -> Sampler {
        let repetition = sampling.repetition_penalty != 1.0;
        let prompt = if repetition { prompt.iter().copied().collect() } else { HashSet::new() };
        Sampler { sampling, seed, index, prompt, counts: HashMap::new() }
    }

    /// The same for another answer to the same prompt.
    pub(crate) fn fork(&self, index: usize) -> Sampler {
        Sampler { index, ..self.clone() }
    }

    /// Notes a token of the answer.
    pub(crate) fn count(&mut self, token: u32) {
        if self.penalises() {
            *self.counts.entry(token).or_default() += 1;
        }
    }

    fn penalises(&self) -> bool {
        let s = &self.sampling;
        s.repetition_penalty != 1.0 || s.frequency_penalty != 0.0 || s.presence_penalty != 0.0
    }

    /// Chooses a token. Changes the logits.
    pub(crate) fn choose(
        &self,
        logits: &mut [f32],
        place: &Place<'_>,
        scratch: &mut Scratch,
    ) -> Result<Choice> {
        self.adjust(logits, place);
        let best = argmax(logits)?;
        let token = match self.sampling.temperature {
            0.0 => best,
            _ => self.draw(logits, best, place.position, scratch),
        };
        let Some(wanted) = place.logprobs else {
            return Ok(Choice { token, logprob: None, top: Vec::new() });
        };
        let norm = log_sum_exp(logits, logits[best as usize]);
        let mut top = Vec::new();
        if wanted != 0 {
            largest(logits, wanted, &mut scratch.candidates);
            top.extend(scratch.candidates.iter().map(|(logit, token)| (*token, logit - norm)));
        }
        Ok(Choice { token, logprob: Some(logits[token as usize] - norm), top })
    }

    /// Biases, penalties, forbidden tokens, mask.
    fn adjust(&self, logits: &mut [f32], place: &Place<'_>) {
        let s = &self.sampling;
        if s.repetition_penalty != 1.0 {
            let answer = self.counts.keys().filter(|token| !self.prompt.contains(*token));
            for token in self.prompt.iter().chain(answer) {
                if let Some(logit) = logits.get_mut(*token as usize) {
                    *logit = if 0.0 < *logit {
                        *logit / s.repetition_penalty
                    } else {
                        *logit * s.repetition_penalty
                    };
                }
            }
        }
        if s.frequency_penalty != 0.0 || s.presence_penalty != 0.0 {
            for (token, count) in &self.counts {
                if let Some(logit) = logits.get_mut(*token as usize) {
                    *logit -= s.frequency_penalty * *count as f32 + s.presence_penalty;
                }
            }
        }
        for (token, bias) in &s.logit_bias {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = if *bias <= -100.0 { f32::NEG_INFINITY } else { *logit + bias };
            }
        }
        for token in place.forbidden {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        if let Some(allowed) = place.allowed {
            mask(logits, allowed);
        }
    }

    /// Draws a token at the temperature, after the filters.
    fn draw(&self, logits: &[f32], best: u32, position: usize, scratch: &mut Scratch) -> u32 {
        let s = &self.sampling;
        let u = uniform(self.seed, self.index, position);
        let (max, scale) = (logits[best as usize], 1.0 / s.temperature);
        let all = s.top_k == 0 || logits.len() <= s.top_k;
        if all && s.top_p == 1.0 && s.min_p == 0.0 {
            return draw_of_all(logits, max, scale, u, &mut scratch.weights).unwrap_or(best);
        }
        let total = if all { self.reach(logits, max, scale, scratch) } else { None };
        if !all {
            largest(logits, s.top_k, &mut scratch.candidates);
        }
        let kept = &mut scratch.candidates;
        for (logit, _) in kept.iter_mut() {
            *logit = exp((*logit - max) * scale);
        }
        let total = total.unwrap_or_else(|| kept.iter().map(|(w, _)| f64::from(*w)).sum());
        let (mut sum, bound) = (0.0, total * f64::from(s.top_p));
        let mut keep = kept.len();
        for (at, (weight, _)) in kept.iter().enumerate() {
            if bound <= sum || *weight < s.min_p {
                keep = at.max(1);
                break;
            }
            sum += f64::from(*weight);
        }
        kept.truncate(keep);
        let mut left = u * kept.iter().map(|(w, _)| f64::from(*w)).sum::<f64>();
        for (weight, token) in kept.iter() {
            left -= f64::from(*weight);
            if left < 0.0 {
                return *token;
            }
        }
        best
    }

    /// Leaves in the candidates, best first, all tokens that top-p or min-p can keep, and gives the sum of all tokens'
    /// weights. What is left out weighs less than the share that top-p leaves out.
    fn reach(&self, logits: &[f32], max: f32, scale: f32, scratch: &mut Scratch) -> Option<f64> {
        let s = &self.sampling;
        let by_top_p = match s.top_p {
            1.0 => f32::INFINITY,
            p => (logits.len() as f32 / (1.0 - p)).ln() + 1.0,
        };
        let by_min_p = if s.min_p == 0.0 { f32::INFINITY } else { -s.min_p.ln() + 0.01 };
        // exp of less than -87 is zero in f32 anyway.
        let floor = max - by_top_p.min(by_min_p).min(87.0) / scale;
        scratch.candidates.clear();
        for (token, logit) in logits.iter().enumerate() {
            if floor <= *logit {
                scratch.candidates.push((*logit, token as u32));
            }
        }
        scratch.candidates.sort_unstable_by(better);
        (s.top_p != 1.0).then(|| f64::from(sum_exp(logits, max, scale)))
    }
}

/// Draws from the whole vocabulary; `None` when rounding left nothing.
fn draw_of_all(logits: &[f32], max: f32, scale: f32, u: f64, weights: &mut Vec<f32>) -> Option<u32> {
    const BLOCK: usize = 256;
    weights.clear();
    weights.extend(logits.iter().map(|logit| exp((logit - max) * scale)));
    let total: f64 = weights.chunks(BLOCK).map(|block| f64::from(block.iter().sum::<f32>())).sum();
    let mut left = u * total;
    for (number, block) in weights.chunks(BLOCK).enumerate() {
        let sum = f64::from(block.iter().sum::<f32>());
        if sum <= left {
            left -= sum;
            continue;
        }
        for (at, weight) in block.iter().enumerate() {
            left -= f64::from(*weight);
            if left < 0.0 {
                return Some((number * BLOCK + at) as u32);
            }
        }
    }
    None
}

/// The most probable token; of equals the first.
pub(crate) fn argmax(logits: &[f32]) -> Result<u32> {
    const BLOCK: usize = 64;
    let (mut best, mut at) = (f32::NEG_INFINITY, None);
    for (number, block) in logits.chunks(BLOCK).enumerate() {
        // Unlike `f32::max` this passes a NaN by, and the compiler makes vectors of it.
        let most = block.iter().fold(f32::NEG_INFINITY, |a, b| if a < *b { *b } else { a });
        if best < most {
            best = most;
            let inside = block.iter().position(|logit| *logit == most).unwrap_or(0);
            at = Some((number * BLOCK + inside) as u32);
        }
    }
    match at {
        Some(token) if best.is_finite() => Ok(token),
        _ => Err(Error::new(
            Code::Internal,
            "no token can follow: the model gave no finite logit, or all are forbidden",
        )),
    }
}

/// The `k` largest logits with their tokens, best first; of equals the first.
pub(crate) fn largest(logits: &[f32], k: usize, out: &mut Vec<(f32, u32)>) {
    const BLOCK: usize = 32;
    out.clear();
    let room = 4 * k + 64;
    let mut floor = f32::NEG_INFINITY;
    for (number, block) in logits.chunks(BLOCK).enumerate() {
        let most = block.iter().fold(f32::NEG_INFINITY, |a, b| if a < *b { *b } else { a });
        if most <= floor {
            continue;
        }
        for (at, logit) in block.iter().enumerate() {
            if floor < *logit {
                out.push((*logit, (number * BLOCK + at) as u32));
            }
        }
        if room <= out.len() {
            out.select_nth_unstable_by(k - 1, better);
            out.truncate(k);
            // Later tokens of the same logit lose against these.
            floor = out[k - 1].0;
        }
    }
    out.sort_unstable_by(better);
    out.truncate(k);
}

/// Natural logarithm of the sum of the exponentials.
pub(crate) fn log_sum_exp(logits: &[f32], max: f32) -> f32 {
    max + sum_exp(logits, max, 1.0).ln()
}

fn better(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

fn mask(logits: &mut [f32], allowed: &SimpleVob) {
    for (word, block) in allowed.as_slice().iter().zip(logits.chunks_mut(32)) {
        match *word {
            u32::MAX => {}
            0 => block.fill(f32::NEG_INFINITY),
            word => {
                for (bit, logit) in block.iter_mut().enumerate() {
                    if word & (1 << bit) == 0 {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
    let known = allowed.as_slice().len() * 32;
    if known < logits.len() {
        logits[known..].fill(f32::NEG_INFINITY);
    }
}

fn sum_exp(logits: &[f32], max: f32, scale: f32) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let mut chunks = logits.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (sum, logit) in sums.iter_mut().zip(chunk) {
            *sum += exp((logit - max) * scale);
        }
    }
    let rest: f32 = chunks.remainder().iter().map(|logit| exp((logit - max) * scale)).sum();
    sums.iter().sum::<f32>() + rest
}

/// e^x for x up to 0, within 3 units in the last place; 0 below -87. Without branches, so that loops become vectors.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Cephes' expf: x = n ln 2 + r, e^r by a polynomial, the scale by the exponent's bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x < -87.0 { -87.0 } else { x };
    let n = (clamped * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (clamped - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let value = p * r * r + r + 1.0;
    let power = f32::from_bits(((n as i32 + 127) as u32) << 23);
    if x < -87.0 { 0.0 } else { value * power }
}

#[cfg(test)]
mod tests;
