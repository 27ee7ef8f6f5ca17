//! A model as a manifest plus files: digests, OpenSSF Model Signing, scanning, and the load gate.
