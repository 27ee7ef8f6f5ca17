//! Integration tests of bms-nn.

mod conformance;
#[cfg(target_os = "linux")]
mod library;
mod lm;
mod oracle;
mod tokens;
mod vocabularies;
