//! The `bms` program.
fn main() {}
