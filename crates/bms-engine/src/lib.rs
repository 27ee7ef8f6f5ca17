//! Verified bundle, preprocess, batch, run, postprocess. Threads, no async runtime.
