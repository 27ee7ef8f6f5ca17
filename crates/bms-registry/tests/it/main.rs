//! The registry through its public face, on real folders.

mod alias;
mod audit;
mod blob;
mod bundles;
mod care;
mod chunks;
mod databases;
mod decide;
mod edge;
mod keys;
mod kill;
mod leases;
mod lifecycle;
mod materialise;
mod publish;
mod quarantine;
mod replicas;
mod rollouts;
mod runs;
mod workers;
