//! Stratified, deterministic splitting.

use bms_wire::{Code, Error, Result};

use crate::stream::hash;

/// One sample as splitting sees it.
pub(crate) struct Item<'a> {
    /// Its class.
    pub(crate) label: &'a str,
    /// What tells it from others of the class.
    pub(crate) name: &'a [u8],
}

/// Indices of the parts, each ascending. Every class is divided in the same proportions.
///
/// Within a class, samples are ranked by a hash of seed, label and name; the parts are consecutive
/// ranges of that rank. So the parts do not depend on the order of the samples.
///
/// # Errors
/// [`Code::InvalidRequest`] unless the fractions are above zero and sum to 1 (within 10⁻⁶).
pub(crate) fn stratified(items: &[Item<'_>], fractions: &[f64], seed: u64) -> Result<Vec<Vec<usize>>> {
    let valid = fractions.iter().all(|&f| f.is_finite() && 0.0 < f);
    if !valid || 1e-6 < (fractions.iter().sum::<f64>() - 1.0).abs() {
        let message = format!("the fractions {fractions:?} of a split are not above zero with sum 1");
        return Err(Error::new(Code::InvalidRequest, message).hint("For example 0.8, 0.2."));
    }
    let mut ranked: Vec<(&str, [u8; 32], usize)> = items
        .iter()
        .enumerate()
        .map(|(at, item)| {
            let rank = hash(seed, &[b"split", item.label.as_bytes(), item.name]);
            (item.label, *rank.as_bytes(), at)
        })
        .collect();
    ranked.sort_unstable();
    let mut parts = vec![Vec::new(); fractions.len()];
    for class in ranked.chunk_by(|a, b| a.0 == b.0) {
        divide(class, fractions, &mut parts);
    }
    for part in &mut parts {
        part.sort_unstable();
    }
    Ok(parts)
}

fn divide(class: &[(&str, [u8; 32], usize)], fractions: &[f64], parts: &mut [Vec<usize>]) {
    let (mut taken, mut share) = (0, 0.0);
    for (at, (fraction, part)) in fractions.iter().zip(parts.iter_mut()).enumerate() {
        share += fraction;
        let end = match at + 1 == fractions.len() {
            true => class.len(),
            // Halves go to the earlier part.
            false => ((share * class.len() as f64 + 0.5) as usize).clamp(taken, class.len()),
        };
        part.extend(class[taken..end].iter().map(|&(_, _, index)| index));
        taken = end;
    }
}

#[cfg(test)]
mod tests;
