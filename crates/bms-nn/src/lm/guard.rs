//! Weights in use, checked against what they were when they were loaded, and made again from the model's files where
//! they are not.
//!
//! Memory flips bits now and then, and a flipped bit of a scale or an exponent ruins every answer from then on. All
//! weights are divided into blocks. What a block holds is recorded once, as a CRC that finds flips at the speed of
//! memory and as a digest that no other bytes have; both are compared later on. A CRC of 64 bits sees every flip of one
//! or two bits in a block and every burst of up to 64 (Koopman, "32-Bit Cyclic Redundancy Codes for Internet
//! Applications", 2002, for how that follows from the polynomial); of anything else it misses one in 2⁶⁴.

use std::cell::RefCell;
use std::ops::Range;

use bms_kernels::Matrix;
use bms_wire::{Code, Error, Result};
use crc_fast::{CrcAlgorithm, checksum};

use super::linear::Part;
use super::load::{LoadOptions, ModelFiles, Network, load_part};

/// Bytes of a block: checked in about 100 µs, so that whoever waits meanwhile does not notice.
const BLOCK_BYTES: usize = 1 << 20;

/// A weight in memory.
pub(super) enum Weight<'a> {
    /// A matrix, which only its own loader can make again.
    Matrix(&'a mut Matrix),
    /// Few numbers.
    Numbers(&'a mut [u8]),
}

impl<'a> Weight<'a> {
    pub(super) fn numbers<T: bytemuck::Pod>(numbers: &'a mut [T]) -> Weight<'a> {
        Weight::Numbers(bytemuck::cast_slice_mut(numbers))
    }

    pub(super) fn into_bytes(self) -> &'a mut [u8] {
        match self {
            Weight::Matrix(matrix) => matrix.packed_mut(),
            Weight::Numbers(bytes) => bytes,
        }
    }
}

/// What a block held when it was recorded.
#[derive(Debug)]
struct Seal {
    crc: u64,
    digest: [u8; 32],
}

#[derive(Debug)]
struct Block {
    weight: usize,
    bytes: Range<usize>,
    seal: Option<Seal>,
}

/// Bytes of a weight that are not what was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The weight's number among those of its model.
    pub weight: usize,
    /// The bytes among those of the weight.
    pub bytes: Range<usize>,
    block: usize,
}

/// What came of a look at one block.
#[derive(Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its bytes.
    pub bytes: usize,
    /// Set when they are not what was recorded.
    pub damage: Option<Damage>,
    /// Whether this was the last block of a pass over all weights. The first pass records.
    pub pass_ended: bool,
}

/// The record of a model's weights.
///
/// It begins empty. The first pass records what it finds, so a flip before it is taken for what was loaded: the pass
/// belongs right behind the load.
#[derive(Debug)]
pub struct WeightGuard {
    blocks: Vec<Block>,
    next: usize,
    recorded: bool,
}

impl WeightGuard {
    /// A record for these weights, as [`Decoder::weights_mut`](super::Decoder::weights_mut) gives them; `None` when
    /// there are none.
    pub fn new(weights: &[&mut [u8]]) -> Option<WeightGuard> {
        let block = |weight: usize, len: usize, start: usize| Block {
            weight,
            bytes: start..len.min(start + BLOCK_BYTES),
            seal: None,
        };
        let blocks: Vec<Block> = weights
            .iter()
            .enumerate()
            .flat_map(|(weight, bytes)| {
                (0..bytes.len()).step_by(BLOCK_BYTES).map(move |start| block(weight, bytes.len(), start))
            })
            .collect();
        (!blocks.is_empty()).then_some(WeightGuard { blocks, next: 0, recorded: false })
    }

    /// Blocks of a pass.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Whether every block was recorded.
    pub fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// Checks the next block, or records it in the first pass. `weights` are those the record was made for.
    ///
    /// # Errors
    /// [`Code::Internal`] when they are others.
    pub fn check_next(&mut self, weights: &[&mut [u8]]) -> Result<Checked> {
        let index = self.next;
        let block = &mut self.blocks[index];
        let bytes = weights.get(block.weight).and_then(|weight| weight.get(block.bytes.clone()));
        let bytes = bytes.ok_or_else(other_weights)?;
        let crc = checksum(CrcAlgorithm::Crc64Nvme, bytes);
        let damaged = match &block.seal {
            Some(seal) => seal.crc != crc,
            None => {
                block.seal = Some(Seal { crc, digest: blake3::hash(bytes).into() });
                false
            }
        };
        let damage =
            damaged.then(|| Damage { weight: block.weight, bytes: block.bytes.clone(), block: index });
        self.next = (index + 1) % self.blocks.len();
        self.recorded |= self.next == 0;
        Ok(Checked { bytes: bytes.len(), damage, pass_ended: self.next == 0 })
    }

    /// Puts back what damaged bytes were, and says how many bits were not. What is put back must have the digest that
    /// was recorded: bytes of a file that was changed meanwhile never get into a model.
    ///
    /// # Errors
    /// [`Code::Tampered`] when `bytes` are not those recorded, the weights are as they were then; [`Code::Internal`] when
    /// the memory does not keep them, or the weights are others.
    pub fn repair(&self, weights: &mut [&mut [u8]], damage: &Damage, bytes: &[u8]) -> Result<u64> {
        let seal = self.blocks.get(damage.block).and_then(|block| block.seal.as_ref());
        let place = weights.get_mut(damage.weight).and_then(|weight| weight.get_mut(damage.bytes.clone()));
        let (Some(seal), Some(place)) = (seal, place) else { return Err(other_weights()) };
        if place.len() != bytes.len() || *blake3::hash(bytes).as_bytes() != seal.digest {
            let what = "the model's files do not hold any more what was loaded from them";
            return Err(Error::new(Code::Tampered, what));
        }
        let bits = place.iter().zip(bytes).map(|(is, was)| u64::from((is ^ was).count_ones())).sum();
        place.copy_from_slice(bytes);
        match checksum(CrcAlgorithm::Crc64Nvme, place) == seal.crc {
            true => Ok(bits),
            false => {
                Err(Error::new(Code::Internal, "the memory of a weight does not keep what is written to it")
                    .hint("Have the machine's memory tested."))
            }
        }
    }
}

fn other_weights() -> Error {
    Error::new(Code::Internal, "these are not the weights that were recorded")
}

/// Makes bytes of one weight again, from the files and with the options its model was loaded from. No other matrix is
/// made, and of this one only the rows that the bytes come from.
///
/// # Errors
/// As [`load`](super::load()), and [`Code::Tampered`] when the files have no such weight any more.
pub fn weight_part(
    files: &ModelFiles<'_>,
    options: &LoadOptions<'_>,
    weight: usize,
    bytes: &Range<usize>,
) -> Result<Vec<u8>> {
    let gone = || Error::new(Code::Tampered, "the model's files have no such weight any more");
    // Without any matrix first, for which of them it is.
    let mut part = Part { matrix: usize::MAX, bytes: bytes.clone(), found: RefCell::default() };
    let mut network = load_part(files, options, Some(&part))?;
    let all = match &mut network {
        Network::Decoder(decoder) => decoder.weights(),
        Network::Embedder(embedder) => embedder.weights(),
    };
    let matrices = all.iter().take(weight).filter(|weight| matches!(weight, Weight::Matrix(_))).count();
    let wanted = all.into_iter().nth(weight).ok_or_else(gone)?;
    if let Weight::Numbers(numbers) = wanted {
        return Ok(numbers.get(bytes.clone()).ok_or_else(gone)?.to_vec());
    }
    drop(network);
    part.matrix = matrices;
    load_part(files, options, Some(&part))?;
    part.found.into_inner().ok_or_else(gone)
}

#[cfg(test)]
mod tests;
