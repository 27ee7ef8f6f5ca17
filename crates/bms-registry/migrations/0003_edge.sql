-- Edge nodes and the samples they were unsure of.

CREATE TABLE nodes (
    name            TEXT    NOT NULL PRIMARY KEY,
    seen_ms         INTEGER NOT NULL,
    model           TEXT    NOT NULL,
    version         INTEGER,
    answers         INTEGER NOT NULL,
    offline_answers INTEGER NOT NULL,
    outbox          INTEGER NOT NULL,
    problem         TEXT
) STRICT;

CREATE TABLE samples (
    -- BLAKE3 of the picture: a delivery sent twice stores nothing twice.
    id         TEXT    NOT NULL PRIMARY KEY,
    -- Order of arrival, from 1.
    sequence   INTEGER NOT NULL UNIQUE,
    node       TEXT    NOT NULL,
    model      TEXT    NOT NULL,
    label      TEXT    NOT NULL,
    confidence REAL    NOT NULL,
    version    INTEGER NOT NULL,
    at_ms      INTEGER NOT NULL,
    assigned_label      TEXT,
    assigned_by         TEXT,
    assigned_confidence REAL
) STRICT;

-- Pictures apart, so that listings do not read them.
CREATE TABLE sample_images (
    id    TEXT NOT NULL PRIMARY KEY REFERENCES samples (id),
    image BLOB NOT NULL
) STRICT;
