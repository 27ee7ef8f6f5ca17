//! The schema in PostgreSQL's words.
//!
//! Migrations are written for SQLite's strict tables, which know four types of columns. Each has one counterpart, so
//! the other schema follows from the first and cannot fall behind it. Text is compared by its bytes, as in SQLite:
//! a server's locale would order names another way.

/// A migration as PostgreSQL takes it: column types by their names there, without `STRICT`. Comments and quoted text
/// stay as they are.
pub(super) fn to_postgres(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len() * 5 / 4);
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let end = match c {
            '\'' => rest[1..].find('\'').map_or(rest.len(), |end| end + 2),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            c => c.len_utf8(),
        };
        let (piece, later) = rest.split_at(end);
        out.push_str(counterpart(piece));
        rest = later;
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn counterpart(word: &str) -> &str {
    match word {
        "INTEGER" => "BIGINT",
        "REAL" => "DOUBLE PRECISION",
        "BLOB" => "BYTEA",
        "TEXT" => r#"TEXT COLLATE "C""#,
        "STRICT" => "",
        other => other,
    }
}

#[cfg(test)]
mod tests;
