//! The server over real sockets, with slots that are processes of this very program.

mod api;
mod binary;
mod cycles;
mod deployment;
mod doors;
mod elastic;
mod endings;
mod goes_on;
mod harness;
mod hung;
mod language;
mod lost;
mod mlflow;
mod pages;
mod random_model;
mod real;
mod real_language;
mod rollouts;
mod sandbox;
mod stand_in;
mod stand_in_language;
mod watched;
