//! Where findings go, and the work one scan may do.

use crate::{Finding, Nature, Severity};

/// Findings kept for one file, besides the one that says that there are more. A hostile file can produce one every few bytes.
const FINDINGS_MAX: usize = 100;
/// Bytes that may be unpacked from one file, nested archives included.
const UNPACKED_BYTES_MAX: u64 = 2 << 30;
/// Archives inside archives.
const DEPTH_MAX: usize = 6;
/// Characters of text from the file that go into a message.
const QUOTE_CHARS_MAX: usize = 120;

/// The state of one file's scan.
pub(crate) struct Context {
    location: String,
    findings: Vec<Finding>,
    unpacked_left: u64,
    depth: usize,
    stopped: bool,
}

impl Context {
    /// A fresh scan of the file at `path`.
    pub(crate) fn new(path: &str) -> Context {
        Context {
            location: quote(path),
            findings: Vec::new(),
            unpacked_left: UNPACKED_BYTES_MAX,
            depth: 0,
            stopped: false,
        }
    }

    /// Reports a construct that attacks the reader. `place` says where inside the file.
    pub(crate) fn attack(&mut self, rule: &str, severity: Severity, place: &str, message: impl Into<String>) {
        self.push(rule, severity, Nature::Attack, place, message.into());
    }

    /// Reports damage that accidents explain.
    pub(crate) fn malformed(&mut self, rule: &str, place: &str, message: impl Into<String>) {
        self.push(rule, Severity::High, Nature::Malformed, place, message.into());
    }

    /// Reports something worth knowing that is harmless by itself.
    pub(crate) fn note(&mut self, rule: &str, severity: Severity, place: &str, message: impl Into<String>) {
        debug_assert!(severity < Severity::Medium, "what may refuse a bundle is an attack or malformed");
        self.push(rule, severity, Nature::Attack, place, message.into());
    }

    fn push(&mut self, rule: &str, severity: Severity, nature: Nature, place: &str, message: String) {
        let full = FINDINGS_MAX <= self.findings.len();
        if full && severity < Severity::Medium {
            return;
        }
        let finding = Finding {
            rule: rule.to_owned(),
            severity,
            nature,
            message: shorten(&message, 4 * QUOTE_CHARS_MAX),
            location: match place {
                "" => self.location.clone(),
                place => format!("{} at {}", self.location, quote(place)),
            },
        };
        if self.findings.contains(&finding) {
            return;
        }
        if !full {
            self.findings.push(finding);
            return;
        }
        // Full: noise must not crowd out the finding that matters.
        let mildest = self.findings.iter_mut().min_by_key(|kept| kept.severity);
        if let Some(kept) = mildest.filter(|kept| kept.severity < finding.severity) {
            *kept = finding;
        }
    }

    /// Scans something inside the file under its own name, one level deeper.
    ///
    /// Returns `None`, with a finding, when the nesting is too deep.
    pub(crate) fn inside<T>(&mut self, name: &str, scan: impl FnOnce(&mut Context) -> T) -> Option<T> {
        if DEPTH_MAX <= self.depth {
            self.attack(
                "nesting-bomb",
                Severity::Medium,
                name,
                "archives are nested too deeply to be scanned",
            );
            return None;
        }
        let outer = self.location.clone();
        self.location = format!("{outer}!{}", quote(name));
        self.depth += 1;
        let result = scan(self);
        self.depth -= 1;
        self.location = outer;
        Some(result)
    }

    /// Whether this is the file itself and nothing inside it.
    pub(crate) fn is_outermost(&self) -> bool {
        self.depth == 0
    }

    /// Bytes that may still be unpacked.
    pub(crate) fn unpacked_left(&self) -> u64 {
        self.unpacked_left
    }

    /// Takes `bytes` off what may still be unpacked.
    pub(crate) fn spend_unpacked(&mut self, bytes: u64) {
        self.unpacked_left = self.unpacked_left.saturating_sub(bytes);
    }

    /// Whether so much was found that going on would only add more of it: a file can be made of
    /// findings, and each one costs a thousand times the bytes that make it. Whoever stops for it
    /// has not seen the rest, which is the worst finding of all.
    pub(crate) fn is_full(&mut self) -> bool {
        let serious = self.findings.iter().filter(|finding| Severity::Medium <= finding.severity).count();
        let full = FINDINGS_MAX <= serious;
        if full && !self.stopped {
            self.stopped = true;
            self.findings.push(Finding {
                rule: "scan-stopped".to_owned(),
                severity: Severity::Critical,
                nature: Nature::Attack,
                message: "so much was found that the scan stopped before the end".to_owned(),
                location: self.location.clone(),
            });
        }
        full
    }

    /// Attacks found so far.
    pub(crate) fn attacks(&self) -> usize {
        let attack =
            |finding: &&Finding| finding.nature == Nature::Attack && Severity::Medium <= finding.severity;
        self.findings.iter().filter(attack).count()
    }

    /// What was found.
    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}

/// Text from a file, made safe to print: control characters escaped, length limited.
pub(crate) fn quote(text: &str) -> String {
    shorten(&text.escape_debug().to_string(), QUOTE_CHARS_MAX)
}

fn shorten(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}
