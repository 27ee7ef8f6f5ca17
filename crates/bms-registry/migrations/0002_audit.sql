-- The audit log. Each event's hash covers the one before; the head says where the chain must end.

CREATE TABLE audit_events (
    sequence INTEGER NOT NULL PRIMARY KEY CHECK (sequence > 0),
    at_ms    INTEGER NOT NULL,
    action   TEXT    NOT NULL,
    subject  TEXT    NOT NULL,
    -- Canonical JSON, exactly as hashed.
    details  TEXT    NOT NULL,
    previous TEXT    NOT NULL,
    hash     TEXT    NOT NULL
) STRICT;

CREATE TABLE audit_head (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL,
    hash     TEXT    NOT NULL
) STRICT;

-- Bundles that were refused. `files_kept` turns 0 when their files were let go to bound the space.
CREATE TABLE quarantine (
    id         TEXT    NOT NULL PRIMARY KEY,
    model      TEXT    NOT NULL,
    code       TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    at_ms      INTEGER NOT NULL,
    files_kept INTEGER NOT NULL CHECK (files_kept IN (0, 1))
) STRICT;

CREATE TABLE quarantine_files (
    quarantine TEXT    NOT NULL REFERENCES quarantine (id),
    -- What the bundle called the file; never used as a path here.
    path       TEXT    NOT NULL,
    size       INTEGER NOT NULL CHECK (size >= 0),
    blake3     TEXT    NOT NULL,
    PRIMARY KEY (quarantine, path)
) STRICT;
