//! The searches for scales of least weighted square error.

/// Lanes that sums run over.
const LANES: usize = 8;

/// Magnitudes below this are taken for zero; their scales would not be numbers.
pub(super) const MAGNITUDE_MIN: f32 = 1e-15;

/// The nearest whole number, halves to even. Meaningless, but defined, from 2^22 on and for what is no number.
#[inline(always)]
pub(super) fn nearest(value: f32) -> i32 {
    // In [2^23, 2^24) the unit of the last place is one, so that adding 1.5 * 2^23 rounds.
    ((value + 12_582_912.0).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

#[inline(always)]
fn total(lanes: [f32; LANES]) -> f32 {
    let mut sum = 0.0;
    for lane in lanes {
        sum += lane;
    }
    sum
}

/// How finely [`ranged`] looks: codes up to `code_max`, and `steps + 1` trial scales from `first` on.
#[derive(Clone, Copy)]
pub(super) struct Trials {
    pub(super) code_max: i32,
    pub(super) first: f32,
    pub(super) step: f32,
    pub(super) steps: usize,
}

/// The scale and the minimum (negated, never negative) with which codes from zero fit the values best:
/// `value ≈ scale * code - minimum`. Each trial takes codes for one scale, then the scale and the minimum of least
/// error for these codes.
#[inline(always)]
pub(super) fn ranged<const N: usize>(values: &[f32; N], weights: &[f32; N], trials: Trials) -> (f32, f32) {
    let (mut min, mut max) = (values[0], values[0]);
    for &value in values {
        min = if value < min { value } else { min };
        max = if max < value { value } else { max };
    }
    min = if 0.0 < min { 0.0 } else { min };
    if max == min {
        return (0.0, -min);
    }
    let (mut sum_w, mut sum_x) = ([0.0; LANES], [0.0; LANES]);
    for i in 0..N {
        sum_w[i % LANES] += weights[i];
        sum_x[i % LANES] += weights[i] * values[i];
    }
    let (sum_w, sum_x) = (total(sum_w), total(sum_x));

    let code_max = trials.code_max as f32;
    let lowest = min;
    let mut codes = take_codes(values, code_max / (max - lowest), lowest, trials.code_max);
    let mut scale = 1.0 / (code_max / (max - lowest));
    let mut best = error(values, weights, &codes, scale, min);
    for step in 0..=trials.steps {
        let inverse = (trials.first + trials.step * step as f32 + code_max) / (max - lowest);
        codes = take_codes(values, inverse, lowest, trials.code_max);
        let (mut sum_l, mut sum_l2, mut sum_xl) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for i in 0..N {
            let weighted = weights[i] * codes[i];
            sum_l[i % LANES] += weighted;
            sum_l2[i % LANES] += weighted * codes[i];
            sum_xl[i % LANES] += weighted * values[i];
        }
        let (sum_l, sum_l2, sum_xl) = (total(sum_l), total(sum_l2), total(sum_xl));
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        if determinant <= 0.0 || determinant.is_nan() {
            continue;
        }
        let mut trial_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        let mut trial_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        if 0.0 < trial_min {
            trial_min = 0.0;
            trial_scale = sum_xl / sum_l2;
        }
        let trial = error(values, weights, &codes, trial_scale, trial_min);
        if trial < best {
            (best, scale, min) = (trial, trial_scale, trial_min);
        }
    }
    (scale, -min)
}

#[inline(always)]
fn take_codes<const N: usize>(values: &[f32; N], inverse: f32, min: f32, code_max: i32) -> [f32; N] {
    let mut codes = [0.0; N];
    for i in 0..N {
        codes[i] = nearest(inverse * (values[i] - min)).clamp(0, code_max) as f32;
    }
    codes
}

#[inline(always)]
fn error<const N: usize>(
    values: &[f32; N],
    weights: &[f32; N],
    codes: &[f32; N],
    scale: f32,
    min: f32,
) -> f32 {
    let mut sums = [0.0; LANES];
    for i in 0..N {
        let difference = scale * codes[i] + min - values[i];
        sums[i % LANES] += weights[i] * difference * difference;
    }
    total(sums)
}

/// The scale with which codes from `-half` to `half - 1` fit the values best, each weighted by its square. The
/// extreme value gives the sign.
#[inline(always)]
pub(super) fn symmetric<const N: usize>(values: &[f32; N], half: i32) -> f32 {
    let mut extreme = 0.0_f32;
    for &value in values {
        if extreme.abs() < value.abs() {
            extreme = value;
        }
    }
    if extreme.abs() < MAGNITUDE_MIN {
        return 0.0;
    }
    let (mut scale, mut best) = fit(values, -(half as f32) / extreme, half).unwrap_or((0.0, 0.0));
    for step in (-9..=9).filter(|step| *step != 0) {
        let inverse = -(half as f32 + 0.1 * step as f32) / extreme;
        if let Some((trial_scale, trial)) = fit(values, inverse, half)
            && best < trial
        {
            (scale, best) = (trial_scale, trial);
        }
    }
    scale
}

/// The best scale for the codes that `inverse` gives, and by how much it lessens the error; nothing when all codes
/// are zero.
#[inline(always)]
fn fit<const N: usize>(values: &[f32; N], inverse: f32, half: i32) -> Option<(f32, f32)> {
    let (mut sum_xl, mut sum_l2) = ([0.0; LANES], [0.0; LANES]);
    for i in 0..N {
        let code = nearest(inverse * values[i]).clamp(-half, half - 1) as f32;
        let weighted = values[i] * values[i] * code;
        sum_xl[i % LANES] += weighted * values[i];
        sum_l2[i % LANES] += weighted * code;
    }
    let (sum_xl, sum_l2) = (total(sum_xl), total(sum_l2));
    match 0.0 < sum_l2 {
        true => Some((sum_xl / sum_l2, sum_xl / sum_l2 * sum_xl)),
        false => None,
    }
}
