//! Training, evaluation and compression.
