//! The tables.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Verdict;

/// One scanner's result on the corpus.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Row {
    name: String,
    malicious: usize,
    found: usize,
    benign: usize,
    flagged: usize,
    errors: usize,
    median_ms: f64,
    p95_ms: f64,
}

impl Row {
    /// Counts verdicts against labels. A file without a verdict counts as not flagged.
    pub(super) fn of(name: &str, labels: &BTreeMap<String, bool>, verdicts: &[Verdict]) -> Row {
        let mut row = Row { name: name.to_owned(), ..Row::default() };
        let by_file: BTreeMap<&str, &Verdict> =
            verdicts.iter().map(|verdict| (&*verdict.file, verdict)).collect();
        for (file, malicious) in labels {
            let verdict = by_file.get(&**file);
            let flagged = verdict.is_some_and(|verdict| verdict.flagged);
            row.errors += usize::from(!flagged && verdict.is_none_or(|verdict| verdict.error));
            let (all, hit) = match malicious {
                true => (&mut row.malicious, &mut row.found),
                false => (&mut row.benign, &mut row.flagged),
            };
            *all += 1;
            *hit += usize::from(flagged);
        }
        let mut micros: Vec<u64> = verdicts.iter().map(|verdict| verdict.micros).collect();
        micros.sort_unstable();
        let at = |share: f64| {
            micros.get((micros.len() as f64 * share) as usize).map_or(0.0, |micros| *micros as f64 / 1000.0)
        };
        (row.median_ms, row.p95_ms) = (at(0.5), at(0.95));
        row
    }
}

/// One scanner's figures for the large checkpoint.
#[derive(Debug, Deserialize)]
pub(super) struct Speed {
    bytes: u64,
    flagged: bool,
    seconds_best: f64,
    seconds_median: f64,
    processor_seconds: f64,
    peak_bytes: u64,
    /// What is the process's own, without the pages of the file.
    #[serde(default)]
    peak_own_bytes: u64,
}

pub(super) fn text(rows: &[Row], speeds: &[(String, Speed)]) -> String {
    let mut text = format!(
        "{:<12} {:>12} {:>8} {:>14} {:>8} {:>8} {:>10} {:>10}\n",
        "scanner", "found", "%", "benign flagged", "%", "errors", "median ms", "p95 ms"
    );
    let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
    for row in rows {
        text.push_str(&format!(
            "{:<12} {:>12} {:>8.1} {:>14} {:>8.1} {:>8} {:>10.3} {:>10.3}\n",
            row.name,
            format!("{}/{}", row.found, row.malicious),
            percent(row.found, row.malicious),
            format!("{}/{}", row.flagged, row.benign),
            percent(row.flagged, row.benign),
            row.errors,
            row.median_ms,
            row.p95_ms,
        ));
    }
    text.push_str("\nOne benign torch checkpoint of 200 MiB, in the file cache:\n");
    text.push_str(&format!(
        "{:<12} {:>8} {:>10} {:>10} {:>14} {:>10} {:>10}\n",
        "scanner", "verdict", "best GB/s", "median", "per CPU second", "peak MB", "own MB"
    ));
    for (name, speed) in speeds {
        let rate = |seconds: f64| speed.bytes as f64 / seconds.max(1e-9) / 1e9;
        text.push_str(&format!(
            "{:<12} {:>8} {:>10.2} {:>10.2} {:>14.2} {:>10.0} {:>10.0}\n",
            name,
            if speed.flagged { "flagged" } else { "clean" },
            rate(speed.seconds_best),
            rate(speed.seconds_median),
            rate(speed.processor_seconds),
            speed.peak_bytes as f64 / 1e6,
            speed.peak_own_bytes as f64 / 1e6,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_counted_against_labels() {
        let labels =
            BTreeMap::from([("a".to_owned(), true), ("b".to_owned(), false), ("c".to_owned(), true)]);
        let verdict =
            |file: &str, flagged| Verdict { file: file.to_owned(), flagged, error: false, micros: 1000 };
        let row = Row::of("x", &labels, &[verdict("a", true), verdict("b", false)]);
        assert_eq!((row.found, row.malicious, row.flagged, row.benign, row.errors), (1, 2, 0, 1, 1));
        assert!((row.median_ms - 1.0).abs() < 1e-9);
    }
}
