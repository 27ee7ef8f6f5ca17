//! A small blocking client for the management API and the Open Inference Protocol.
