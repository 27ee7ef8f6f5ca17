//! Numbers with a unit behind them, as options take them.

/// Units of time that options share, in seconds.
pub(crate) const TIMES: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 24 * 3600)];

/// Units of memory, in bytes.
const MEMORY: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// A number of bytes, or one with its unit.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text, &MEMORY, 1);
    let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| "expected a size such as 8GiB or 500MiB".to_owned())
}

/// A number and what its unit stands for; `bare` for a number alone.
pub(crate) fn split<'a>(text: &'a str, units: &[(&str, u64)], bare: u64) -> (&'a str, u64) {
    let with_unit = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    with_unit.unwrap_or((text, bare))
}

/// A whole number in the units' common measure; `None` when it is none, or too large.
pub(crate) fn whole(text: &str, units: &[(&str, u64)], bare: u64) -> Option<u64> {
    let (number, factor) = split(text, units, bare);
    number.parse::<u64>().ok()?.checked_mul(factor)
}
