//! One module a command: its options, and the few calls that make it.

pub(crate) mod audit;
pub(crate) mod augment;
pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod compress;
pub(crate) mod convert;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod edge;
pub(crate) mod evaluate;
pub(crate) mod label;
pub(crate) mod lifecycle;
pub(crate) mod lineage;
pub(crate) mod package;
pub(crate) mod predict;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod quarantine;
pub(crate) mod reference;
pub(crate) mod registry;
pub(crate) mod scan;
pub(crate) mod seal;
pub(crate) mod serve;
pub(crate) mod store;
pub(crate) mod train;
pub(crate) mod trust;
