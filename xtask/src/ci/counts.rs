//! How many tests ran, read from what the test runners print.

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Whether a test ran.
    pub(super) fn any(self) -> bool {
        self.passed + self.failed > 0
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Adds up every summary among the lines: nextest's `… tests run: …` and libtest's `test result: …`.
pub(super) fn read<'a>(lines: impl Iterator<Item = &'a str>) -> Counts {
    let mut counts = Counts::default();
    for line in lines {
        let trimmed = line.trim_start();
        let nextest = trimmed.strip_prefix("Summary [").and_then(|rest| {
            rest.split_once(" tests run: ").or_else(|| rest.split_once(" test run: ")).map(|(_, parts)| parts)
        });
        // Nextest shows what a test that failed has printed, which is such a line as well, indented.
        let libtest = || line.strip_prefix("test result: ").and_then(|rest| Some(rest.split_once(". ")?.1));
        if let Some(parts) = nextest.or_else(libtest) {
            parts.split([',', ';']).for_each(|part| add(&mut counts, part.trim()));
        }
    }
    counts
}

/// Adds `12 passed (1 slow)` or `2 timed out`; words that count nothing are left out.
fn add(counts: &mut Counts, part: &str) {
    let Some((number, word)) = part.split_once(' ') else { return };
    let Ok(number) = number.parse::<u64>() else { return };
    match word.split(" (").next().unwrap_or_default() {
        "passed" => counts.passed += number,
        "failed" | "timed out" | "exec failed" => counts.failed += number,
        "skipped" | "ignored" => counts.skipped += number,
        _ => {}
    }
}

#[cfg(test)]
mod tests;
