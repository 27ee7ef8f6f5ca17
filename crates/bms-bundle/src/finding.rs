//! What a scan reports.

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Unusual, harmless by itself.
    Low,
    /// Exhausts or confuses a reader.
    Medium,
    /// Reads or writes what it should not, or hides content.
    High,
    /// Runs code.
    Critical,
}

/// What a finding says about the file's author.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nature {
    /// A construct that attacks whoever reads the file.
    Attack,
    /// The file is broken in a way that accidents explain, such as a truncated copy.
    Malformed,
}

/// One thing a scan found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule, a stable name in `kebab-case`.
    pub rule: String,
    /// How bad.
    pub severity: Severity,
    /// Attack or accident.
    pub nature: Nature,
    /// What was found, a lowercase fragment. Text from the file is escaped and shortened.
    pub message: String,
    /// Where: the path, and inside it the member, node or byte offset.
    pub location: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {} ({})", self.message, self.location, self.rule)
    }
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Severity::Info => "info",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        })
    }
}
