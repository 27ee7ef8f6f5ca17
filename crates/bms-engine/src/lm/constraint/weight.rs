//! How much a constraint may make the compiler write down at once, told before it is compiled.
//!
//! The compiler follows an expression by its derivatives (Owens, Reppy, Turon: *Regular-expression derivatives
//! re-examined*, 2009): at each place it lists what may follow. A list is at most as long as the expression has parts where
//! parts stand one after another or to choose from, but as long as the *product* of the parts' lists where several must hold
//! at once. The compiler's own limits are looked at between two lists, so a grammar of a few hundred bytes can ask for
//! all of the memory. The weight of an expression is an upper estimate of its lists' length.

mod lark;
mod schema;

pub(super) use lark::check as check_lark;
pub(super) use schema::check as check_schema;

use bms_wire::limits::{CONSTRAINT_WEIGHT_MAX, EXPRESSION_WEIGHT_MAX};
use bms_wire::{Code, Error, Result};
use regex_syntax::hir::{Class, Hir, HirKind};

/// Characters of a literal that weigh as much as a part: its derivatives are its ends, which are copied.
const LITERAL: u64 = 8;
/// Ranges of a character class that weigh as much as a part.
const RANGES: u64 = 4;

/// Checks a regular expression that stands alone.
///
/// # Errors
/// [`Code::TooLarge`] when it weighs too much.
pub(super) fn check_regex(expression: &str) -> Result<()> {
    light(regex(expression), "the regular expression")
}

/// What a regular expression weighs.
fn regex(expression: &str) -> u64 {
    match regex_syntax::Parser::new().parse(expression) {
        Ok(parsed) => parts(&parsed),
        // Unreadable here, so most likely to the compiler too, which says why. If not: no character is more than this.
        Err(_) => 8 * expression.len() as u64,
    }
}

fn parts(expression: &Hir) -> u64 {
    match expression.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => self::literal(literal.0.len()),
        HirKind::Class(Class::Unicode(class)) => 1 + class.ranges().len() as u64 / RANGES,
        HirKind::Class(Class::Bytes(class)) => 1 + class.ranges().len() as u64 / RANGES,
        // How often does not matter: what is left of a repetition is again one.
        HirKind::Repetition(repetition) => 1 + parts(&repetition.sub),
        HirKind::Capture(capture) => parts(&capture.sub),
        HirKind::Concat(all) | HirKind::Alternation(all) => {
            all.iter().fold(0, |sum: u64, part| sum.saturating_add(parts(part)))
        }
    }
}

fn literal(bytes: usize) -> u64 {
    1 + bytes as u64 / LITERAL
}

/// What expressions of these weights weigh when all must hold at once.
fn at_once(weights: impl Iterator<Item = u64>) -> u64 {
    let mut weights = weights.peekable();
    match weights.next() {
        Some(one) if weights.peek().is_none() => one,
        Some(first) => {
            weights.fold(first.saturating_add(1), |product, w| product.saturating_mul(w.saturating_add(1)))
        }
        None => 0,
    }
}

/// The weights of a constraint's expressions, added up.
#[derive(Debug, Default)]
struct Scale {
    total: u64,
}

impl Scale {
    fn add(&mut self, weight: u64, what: &str) -> Result<()> {
        light(weight, what)?;
        self.total = self.total.saturating_add(weight);
        match self.total <= CONSTRAINT_WEIGHT_MAX {
            true => Ok(()),
            false => Err(too_heavy("the constraint's expressions together", CONSTRAINT_WEIGHT_MAX)),
        }
    }
}

fn light(weight: u64, what: &str) -> Result<()> {
    match weight <= EXPRESSION_WEIGHT_MAX {
        true => Ok(()),
        false => Err(too_heavy(what, EXPRESSION_WEIGHT_MAX)),
    }
}

fn too_heavy(what: &str, most: u64) -> Error {
    Error::new(Code::TooLarge, format!("{what} can grow to more than {most} parts")).hint(
        "Make it shorter, repeat with {m,n} in place of writing out, or let fewer expressions hold at once.",
    )
}

#[cfg(test)]
mod tests;
