//! The server over real sockets, with slots that are processes of this very program.

mod api;
mod binary;
mod cycles;
mod deployment;
mod doors;
mod elastic;
mod endings;
mod engines;
mod goes_on;
mod harness;
mod hung;
mod keys;
mod language;
mod lost;
mod mlflow;
mod pages;
mod random_model;
mod real;
mod real_language;
mod rollouts;
mod sandbox;
mod slurm;
mod stand_in;
mod stand_in_engine;
mod stand_in_language;
mod watched;
