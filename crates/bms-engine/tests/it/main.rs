//! Integration tests of bms-engine: real graphs, sealed, verified, loaded and asked.

mod answers;
mod binary;
mod hostile;
mod language;
mod models;
mod pipelines;
mod queue;
