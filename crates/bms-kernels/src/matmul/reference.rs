//! The plain product every other is tested against.

use half::{bf16, f16};

use super::Task;
use crate::Format;
use crate::activations::{COLS, FIELDS};
use crate::matrix::{Block, LANES};

/// Computes a task.
pub(super) fn compute(task: &Task<'_>) {
    for group in task.group..task.group + task.groups {
        for row in 0..task.tile.tile.rows {
            let values = match task.matrix.format().is_quantised() {
                true => quantised(task, group, row),
                false => float(task, group, row),
            };
            task.put(group, row, &values);
        }
    }
}

fn quantised(task: &Task<'_>, group: usize, row: usize) -> [f32; LANES] {
    let size = task.tile.tile.rows;
    let mut values = [0.0; LANES];
    for index in 0..task.matrix.cols() / COLS {
        let block = Block::read(task.matrix.format(), task.matrix.group(group), index);
        let codes = &task.tile.codes[(index * size + row) * COLS..][..COLS];
        let number = |field: usize| task.tile.numbers[(index * FIELDS + field) * size + row];
        let scale = number(0);
        let sum = |field: usize| -(number(field).to_bits() as i32) / 32;
        let sums = [sum(5), sum(6)];
        for (lane, value) in values.iter_mut().enumerate() {
            for (half, sum) in sums.into_iter().enumerate() {
                let columns = half * 16..half * 16 + 16;
                let product: i32 = block.codes[lane][columns.clone()]
                    .iter()
                    .zip(&codes[columns])
                    .map(|(w, x)| i32::from(*w) * i32::from(*x))
                    .sum();
                let (weight, min) = (block.scale[lane][half], block.min[lane][half]);
                *value += scale * (weight * product as f32 + min * sum as f32);
            }
        }
    }
    values
}

fn float(task: &Task<'_>, group: usize, row: usize) -> [f32; LANES] {
    let size = task.tile.tile.rows;
    let bytes = task.matrix.group(group);
    let mut values = [0.0; LANES];
    for k in 0..task.matrix.cols() {
        let x = task.tile.floats[k * size + row];
        for (lane, value) in values.iter_mut().enumerate() {
            let at = k * LANES + lane;
            let weight = match task.matrix.format() {
                Format::F16 => f16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]).to_f32(),
                Format::BF16 => bf16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]).to_f32(),
                _ => f32::from_le_bytes([
                    bytes[4 * at],
                    bytes[4 * at + 1],
                    bytes[4 * at + 2],
                    bytes[4 * at + 3],
                ]),
            };
            *value += weight * x;
        }
    }
    values
}
