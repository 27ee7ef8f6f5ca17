//! Integration tests of bms-engine: real graphs, sealed, verified, loaded and asked.

mod answers;
mod hostile;
mod models;
mod queue;
