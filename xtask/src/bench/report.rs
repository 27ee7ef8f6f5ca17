//! Medians, spreads, ratios, and fractions of the possible.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use super::Plan;
use super::memory;
use super::ours::Machine;
use super::work::Work;

/// Sequences of the batch.
const BATCH: f64 = 16.0;

/// What was measured so far.
pub(crate) struct Report {
    header: Value,
    machine: Machine,
    compares: bool,
    /// Name and costs of the model.
    model: Value,
    /// Values of each round, ours first.
    values: BTreeMap<Work, [Vec<f64>; 2]>,
}

impl Report {
    pub(crate) fn new(plan: &Plan, machine: Machine, model: Value, compares: bool) -> Report {
        let name = plan.model.file_name().map(|name| name.to_string_lossy().into_owned());
        let header = json!({
            "file": name, "threads": plan.threads, "rounds": plan.rounds,
            "load_average_at_start": memory::load_average(),
        });
        Report { header, machine, compares, model, values: BTreeMap::new() }
    }

    /// Adds one round's values of one engine.
    pub(crate) fn add(&mut self, ours: bool, results: Vec<(Work, f64)>) {
        for (work, value) in results {
            let sides = self.values.entry(work).or_default();
            sides[usize::from(!ours)].push(value);
        }
    }

    /// What the machine allows at best, in the work's unit.
    fn limit(&self, work: Work) -> Option<f64> {
        let cost = |name: &str| self.model[name].as_f64().filter(|cost| 0.0 < *cost);
        let integers = self.model["integer_products"].as_bool()?;
        let operations = if integers { self.machine.int8_operations } else { self.machine.f32_operations };
        let memory = || Some(self.machine.read_bytes / cost("decode_bytes_per_token")?);
        match work {
            Work::Prompt => Some(operations / cost("prefill_operations_per_token")?),
            Work::Generate => memory(),
            Work::Batch => Some((BATCH * memory()?).min(operations / cost("decode_operations_per_token")?)),
            _ => None,
        }
    }

    /// How many times better ours was, round by round.
    fn ratios(work: Work, [ours, peer]: &[Vec<f64>; 2]) -> Vec<f64> {
        let ratio = |(ours, peer): (&f64, &f64)| {
            if work.higher_is_better() { ours / peer } else { peer / ours }
        };
        ours.iter().zip(peer).map(ratio).collect()
    }

    /// One JSON object.
    pub(crate) fn json(&self) -> Result<String> {
        let works = self.values.iter().map(|(work, sides)| {
            let [ours, peer] = sides;
            let ratios = Report::ratios(*work, sides);
            let limit = self.limit(*work);
            let fraction = |values: &[f64]| Some(median(values)? / limit?);
            json!({
                "work": work.name(), "title": work.title(), "unit": work.unit(),
                "higher_is_better": work.higher_is_better(),
                "ours": summary(ours), "llama_cpp": summary(peer),
                "ratios": ratios, "ratio_median": median(&ratios),
                "limit": limit, "ours_of_limit": fraction(ours), "llama_cpp_of_limit": fraction(peer),
            })
        });
        let object = json!({
            "run": self.header, "model": self.model, "machine": self.machine.all,
            "load_average_at_end": memory::load_average(), "works": works.collect::<Vec<_>>(),
        });
        Ok(serde_json::to_string(&object)?)
    }

    /// A table for people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let giga = |value: f64| value / 1e9;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} on {} threads, {} rounds; the machine at best ({}): {:.1} GB/s, {:.0} GFLOP/s, {:.0} int8 GOP/s\n",
            self.header["file"].as_str().unwrap_or_default(),
            self.header["threads"],
            self.header["rounds"],
            self.machine.isa,
            giga(self.machine.read_bytes),
            giga(self.machine.f32_operations),
            giga(self.machine.int8_operations),
        );
        let _ = writeln!(
            text,
            "{:<42} {:>24} {:>24} {:>20} {:>8}",
            "median (lowest..highest)",
            "bms",
            if self.compares { "llama.cpp" } else { "" },
            if self.compares { "times better" } else { "" },
            "of limit"
        );
        for (work, sides) in &self.values {
            let title = format!("{} [{}]", work.title(), work.unit());
            let ratios = Report::ratios(*work, sides);
            let of_limit = median(&sides[0]).zip(self.limit(*work));
            let of_limit = of_limit.map(|(ours, limit)| format!("{:.0} %", 100.0 * ours / limit));
            let _ = writeln!(
                text,
                "{title:<42} {:>24} {:>24} {:>20} {:>8}",
                spread(&sides[0], 1),
                spread(&sides[1], 1),
                spread(&ratios, 2),
                of_limit.unwrap_or_default()
            );
        }
        text
    }
}

pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

fn lowest_and_highest(values: &[f64]) -> Option<(f64, f64)> {
    let low = values.iter().copied().min_by(f64::total_cmp)?;
    Some((low, values.iter().copied().max_by(f64::total_cmp)?))
}

pub(super) fn summary(values: &[f64]) -> Value {
    match (median(values), lowest_and_highest(values)) {
        (Some(median), Some((low, high))) => {
            json!({"median": median, "min": low, "max": high, "values": values})
        }
        _ => Value::Null,
    }
}

pub(super) fn spread(values: &[f64], digits: usize) -> String {
    match (median(values), lowest_and_highest(values)) {
        (Some(median), Some((low, high))) => {
            format!("{median:.digits$} ({low:.digits$}..{high:.digits$})")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
