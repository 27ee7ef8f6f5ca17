//! Integration tests of bms-nn.

mod conformance;
mod lm;
#[cfg(target_os = "linux")]
mod library;
mod vocabularies;
