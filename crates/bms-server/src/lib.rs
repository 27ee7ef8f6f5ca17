//! Gateway, control plane, slots and dashboard.
