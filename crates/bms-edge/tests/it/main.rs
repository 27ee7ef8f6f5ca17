//! The agent over real sockets: a centre made for the purpose on one side, clients on the other.

mod agent;
mod bundles;
mod centre;
mod deliveries;
mod kill;
mod protocol;
mod restarts;
mod updates;
