//! SPDX licence expressions: `OR`, `AND`, `WITH`, parentheses, and the old `/` for `OR`.
//!
//! Source: SPDX specification 2.3, annex D. `WITH` binds strongest, then `AND`, then `OR`.

use anyhow::{Result, bail};

/// What must hold for a licence to be acceptable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    /// One licence, `Licence WITH exception` written with single spaces.
    Licence(String),
    Any(Vec<Expression>),
    All(Vec<Expression>),
}

impl Expression {
    pub(crate) fn parse(text: &str) -> Result<Expression> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let mut tokens: Vec<&str> = spaced.split_whitespace().rev().collect();
        let expression = any(&mut tokens)?;
        match tokens.pop() {
            None => Ok(expression),
            Some(token) => bail!("`{token}` is unexpected"),
        }
    }

    /// Whether the allowed licences suffice.
    pub(crate) fn satisfied(&self, allowed: &impl Fn(&str) -> bool) -> bool {
        match self {
            Expression::Licence(licence) => allowed(licence),
            Expression::Any(parts) => parts.iter().any(|part| part.satisfied(allowed)),
            Expression::All(parts) => parts.iter().all(|part| part.satisfied(allowed)),
        }
    }
}

/// Tokens are kept in reverse, so that the next one is popped.
fn any(tokens: &mut Vec<&str>) -> Result<Expression> {
    let mut parts = vec![all(tokens)?];
    while tokens.pop_if(|token| token.eq_ignore_ascii_case("or")).is_some() {
        parts.push(all(tokens)?);
    }
    Ok(one_or(parts, Expression::Any))
}

fn all(tokens: &mut Vec<&str>) -> Result<Expression> {
    let mut parts = vec![simple(tokens)?];
    while tokens.pop_if(|token| token.eq_ignore_ascii_case("and")).is_some() {
        parts.push(simple(tokens)?);
    }
    Ok(one_or(parts, Expression::All))
}

fn simple(tokens: &mut Vec<&str>) -> Result<Expression> {
    if tokens.pop_if(|token| *token == "(").is_some() {
        let inside = any(tokens)?;
        return match tokens.pop() {
            Some(")") => Ok(inside),
            _ => bail!("a parenthesis is not closed"),
        };
    }
    let licence = identifier(tokens)?;
    if tokens.pop_if(|token| token.eq_ignore_ascii_case("with")).is_none() {
        return Ok(Expression::Licence(licence));
    }
    Ok(Expression::Licence(format!("{licence} WITH {}", identifier(tokens)?)))
}

fn identifier(tokens: &mut Vec<&str>) -> Result<String> {
    match tokens.pop() {
        None => bail!("it ends too early"),
        Some(token) if matches!(token.to_ascii_lowercase().as_str(), "or" | "and" | "with" | "(" | ")") => {
            bail!("`{token}` stands where a licence should")
        }
        Some(token) => Ok(token.to_owned()),
    }
}

fn one_or(mut parts: Vec<Expression>, many: impl Fn(Vec<Expression>) -> Expression) -> Expression {
    match (parts.pop(), parts.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            parts.extend(last);
            many(parts)
        }
    }
}
