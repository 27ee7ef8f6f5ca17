//! The store through its public face: on memory, on folders, and on stores that fail.

mod collect;
mod crash;
mod delta;
mod faulty;
mod files;
mod interleaved;
mod kill;
mod material;
mod memory;
mod paced;
mod rot;
mod s3;
