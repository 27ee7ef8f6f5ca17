//! Data sets, splits and deterministic augmentation.
