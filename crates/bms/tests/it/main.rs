//! The program as its users meet it: real processes, real files, real sockets.

mod agreement;
mod clients;
mod commands;
mod durability;
mod language;
mod program;
mod sandbox;
mod wrong_input;
