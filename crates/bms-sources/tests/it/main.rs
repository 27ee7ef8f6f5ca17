//! Pulling from servers that behave, and from such that do not.

mod harness;
mod hub;
mod oci;
mod server;
mod web;
