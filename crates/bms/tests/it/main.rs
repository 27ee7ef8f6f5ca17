//! The program as its users meet it: real processes, real files, real sockets.

mod agreement;
mod clients;
mod commands;
mod durability;
mod engines;
mod keys;
mod language;
mod lifecycle;
mod load;
mod mlflow;
mod nodes;
mod outages;
mod pipelines;
mod program;
mod replicas;
mod rollout;
mod sandbox;
mod scrub;
mod seal;
mod sources;
mod store;
mod triton;
mod wrong_input;
