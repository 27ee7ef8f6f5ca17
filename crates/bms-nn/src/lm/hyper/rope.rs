//! Rotary position embeddings: which frequencies turn which pairs.
//!
//! Sources: <https://arxiv.org/abs/2104.09864> (RoPE), <https://arxiv.org/abs/2309.00071> (YaRN),
//! <https://arxiv.org/abs/2402.13753> (LongRoPE), and the definitions of Hugging Face transformers
//! (`modeling_rope_utils.py`), which the published models follow.

use bms_kernels::RopeStyle;
use bms_wire::{Code, Error, Result};

/// A rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub base: f32,
    /// How many of a head's values are turned, the first ones; even.
    pub dims: usize,
    /// Which make pairs.
    pub style: RopeStyle,
    /// How frequencies are changed for contexts longer than those first trained for.
    pub scaling: Scaling,
}

/// How frequencies are changed for long contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All are divided by the factor.
    Linear {
        /// The factor.
        factor: f32,
    },
    /// Low ones are divided by the factor, those between two bounds in part.
    Llama3 {
        /// The factor.
        factor: f32,
        /// The context over the longest wavelength that is kept in part.
        low: f32,
        /// The context over the longest wavelength that is kept.
        high: f32,
        /// The context first trained for.
        original: f32,
    },
    /// Low ones are divided by the factor, blended over the dimensions.
    Yarn {
        /// The factor.
        factor: f32,
        /// The context first trained for.
        original: f32,
        /// Turns in the original context from which on a frequency is kept.
        fast: f32,
        /// Turns in the original context up to which it is divided.
        slow: f32,
        /// What turned values are multiplied with.
        attention: f32,
        /// Whether the bounds are rounded to whole dimensions.
        rounded: bool,
    },
    /// Each is divided by its own number.
    Factors(Vec<f32>),
    /// Each is divided by its own number, which is another for long contexts.
    Long {
        /// Numbers for contexts up to the original.
        short: Vec<f32>,
        /// Numbers for longer ones.
        long: Vec<f32>,
        /// The context first trained for.
        original: usize,
        /// What turned values are multiplied with.
        attention: f32,
    },
}

impl Rope {
    /// Checks the numbers for heads of this width.
    pub(super) fn check(&self, head_dim: usize) -> Result<()> {
        let wrong =
            |what: String| Err(Error::new(Code::InvalidBundle, format!("the rotary embedding {what}")));
        if !self.dims.is_multiple_of(2) || !(2..=head_dim).contains(&self.dims) {
            return wrong(format!("turns {} of {head_dim} values", self.dims));
        }
        if !(self.base.is_finite() && 1.0 <= self.base) {
            return wrong(format!("has the base {}", self.base));
        }
        let positive = |value: &f32| value.is_finite() && 0.0 < *value;
        let list = |values: &[f32]| values.len() == self.dims / 2 && values.iter().all(positive);
        let fine = match &self.scaling {
            Scaling::None => true,
            Scaling::Linear { factor } => positive(factor),
            Scaling::Llama3 { factor, low, high, original } => {
                [factor, low, high, original].into_iter().all(positive) && low < high
            }
            Scaling::Yarn { factor, original, fast, slow, attention, .. } => {
                [factor, original, fast, slow, attention].into_iter().all(positive)
            }
            Scaling::Factors(factors) => list(factors),
            Scaling::Long { short, long, original, attention } => {
                list(short) && list(long) && 0 < *original && positive(attention)
            }
        };
        match fine {
            true => Ok(()),
            false => {
                wrong(format!("has a scaling that does not fit {} values: {:?}", self.dims, self.scaling))
            }
        }
    }

    /// What the frequency of each pair is divided by, for a cache of `context` positions; empty when by nothing.
    fn factors(&self, context: usize) -> Vec<f32> {
        let pairs = self.dims / 2;
        let plain = |pair: usize| self.base.powf(-((2 * pair) as f32) / self.dims as f32);
        match &self.scaling {
            Scaling::None => Vec::new(),
            Scaling::Linear { factor } => vec![*factor; pairs],
            Scaling::Llama3 { factor, low, high, original } => {
                (0..pairs).map(|pair| llama3(plain(pair), *factor, *low, *high, *original)).collect()
            }
            Scaling::Yarn { factor, original, fast, slow, rounded, .. } => {
                let (from, to) = self.yarn_range(*original, *fast, *slow, *rounded);
                let blend = |pair: usize| {
                    let divided = ((pair as f32 - from) / (to - from)).clamp(0.0, 1.0);
                    1.0 / (1.0 - divided + divided / factor)
                };
                (0..pairs).map(blend).collect()
            }
            Scaling::Factors(factors) => factors.clone(),
            Scaling::Long { short, long, original, .. } => {
                if context <= *original {
                    short.clone()
                } else {
                    long.clone()
                }
            }
        }
    }

    /// The embedding as it is computed, for a cache of `context` positions.
    pub fn computed(&self, context: usize) -> bms_kernels::Rope {
        let factors = self.factors(context);
        bms_kernels::Rope::new(self.style, self.dims, f64::from(self.base), &factors, self.attention())
    }

    /// What turned values are multiplied with.
    fn attention(&self) -> f32 {
        match self.scaling {
            Scaling::Yarn { attention, .. } | Scaling::Long { attention, .. } => attention,
            _ => 1.0,
        }
    }

    /// The pairs between which YaRN blends.
    fn yarn_range(&self, original: f32, fast: f32, slow: f32, rounded: bool) -> (f32, f32) {
        let (base, dims) = (f64::from(self.base), self.dims as f64);
        let pair = |turns: f32| {
            dims * (f64::from(original) / (f64::from(turns) * std::f64::consts::TAU)).ln() / (2.0 * base.ln())
        };
        let (mut from, mut to) = (pair(fast), pair(slow));
        if rounded {
            (from, to) = (from.floor(), to.ceil());
        }
        let (from, to) = (from.max(0.0) as f32, to.min(dims - 1.0) as f32);
        (from, if from == to { to + 0.001 } else { to })
    }
}

/// What a frequency is divided by.
fn llama3(frequency: f32, factor: f32, low: f32, high: f32, original: f32) -> f32 {
    let wavelength = std::f32::consts::TAU / frequency;
    if wavelength < original / high {
        return 1.0;
    }
    if original / low < wavelength {
        return factor;
    }
    let kept = (original / wavelength - low) / (high - low);
    1.0 / ((1.0 - kept) / factor + kept)
}
