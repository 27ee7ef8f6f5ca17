//! Operations that push a constant.

use std::rc::Rc;

use super::super::opcode::{Operation, unsigned};
use super::super::text;
use super::super::value::Value;
use super::{Fault, Machine, Run};

/// Bytes of a text that is kept. Names of imports are shorter; a longer one that is used as a name counts as computed.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Digits of a decimal integer, Python's own limit.
const DIGITS_MAX: usize = 4300;

impl Machine<'_, '_> {
    pub(super) fn constant(&mut self, op: &Operation<'_>) -> Run<()> {
        let wrong = |what: &str| Fault::Wrong(format!("{what} is malformed"));
        let value = match op.code {
            b'N' => {
                self.stack.push(self.none);
                return Ok(());
            }
            b'K' | b'M' => Value::Int(unsigned(op.operand) as i64),
            b'J' => Value::Int(i64::from(unsigned(op.operand) as u32 as i32)),
            0x8a if op.operand.len() < 8 => Value::Int(unsigned(op.operand) as i64),
            b'I' | b'L' => {
                if DIGITS_MAX < op.operand.len() {
                    return Err(Fault::Bomb(format!("an integer has {} digits", op.operand.len())));
                }
                match text::integer(op.operand) {
                    Some(value) => Value::Int(value),
                    None if text::is_integer(op.operand) => Value::Opaque,
                    None => return Err(wrong("an integer")),
                }
            }
            b'F' if !text::is_float(op.operand) => return Err(wrong("a number")),
            b'S' | b'V' | b'T' | b'U' | b'X' | 0x8c | 0x8d if TEXT_BYTES_MAX < op.operand.len() => {
                Value::Opaque
            }
            b'S' => Value::Text(Rc::from(text::quoted(op.operand).ok_or_else(|| wrong("a text"))?)),
            b'V' => Value::Text(Rc::from(text::raw_unicode(op.operand))),
            b'T' | b'U' => Value::Text(Rc::from(String::from_utf8_lossy(op.operand))),
            b'X' | 0x8c | 0x8d => {
                Value::Text(Rc::from(std::str::from_utf8(op.operand).map_err(|_| wrong("a text"))?))
            }
            _ => {
                self.stack.push(self.opaque);
                return Ok(());
            }
        };
        if u32::MAX as usize - 1 <= self.arena.len() {
            return Err(Fault::Bomb("the pickle makes more values than are followed".to_owned()));
        }
        let id = self.arena.add(value);
        self.stack.push(id);
        Ok(())
    }
}
