//! The engine as a whole, on a decoder whose every token tells whether the right history stood in the right pages.

mod answers;
mod audit;
mod fairness;
pub(crate) mod fake;
mod faults;
mod handle;
mod harness;
mod memory;
mod prefixes;
mod random;
mod said;
mod steps;
