use super::*;

#[track_caller]
fn check(sqlite: &str, want: &str) {
    assert_eq!(to_postgres(sqlite), want);
}

#[test]
fn types_have_counterparts() {
    check("a INTEGER NOT NULL, b REAL,", "a BIGINT NOT NULL, b DOUBLE PRECISION,");
    check("a TEXT NOT NULL, b BLOB) STRICT;", r#"a TEXT COLLATE "C" NOT NULL, b BYTEA) ;"#);
}

#[test]
fn other_words_comments_and_quotations_stay() {
    check("-- TEXT is STRICT\nTEXTUAL INTEGERS", "-- TEXT is STRICT\nTEXTUAL INTEGERS");
    check("DEFAULT 'INTEGER' CHECK (REALLY > 1) -- é", "DEFAULT 'INTEGER' CHECK (REALLY > 1) -- é");
    check("'unended TEXT", "'unended TEXT");
}
