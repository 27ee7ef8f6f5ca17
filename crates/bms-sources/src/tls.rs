//! TLS for connections to strangers: who vouches for a host.

pub use bms_wire::tls::blocking as trusting;
