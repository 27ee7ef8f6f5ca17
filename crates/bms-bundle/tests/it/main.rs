//! Tests of the crate from outside: bundles on disk, the gate, signatures, the scanner.

mod bundles;
mod gate;
mod language;
mod mutations;
mod samples;
mod scan_archive;
mod scan_container;
mod scan_document;
mod scan_gguf;
mod scan_hdf5;
mod scan_onnx;
mod scan_other;
mod scan_pickle;
mod scan_safetensors;
mod scan_tensorflow;
mod seal;
mod signatures;
mod tamper;
mod trust;
