-- Machines that run slots for the centre. Times are the database's own.

-- Whose certificates count: the certificate of the authority all replicas share, in base64.
CREATE TABLE worker_authority (
    id          INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    certificate TEXT    NOT NULL
) STRICT;

CREATE TABLE workers (
    name      TEXT    NOT NULL PRIMARY KEY,
    -- Hex SHA-256 of its public key.
    key_id    TEXT    NOT NULL UNIQUE,
    -- Labels of the token it joined with, as JSON.
    labels    TEXT    NOT NULL,
    -- What it said last, as JSON; empty before its first word.
    report    TEXT    NOT NULL,
    -- joined, draining, left or revoked.
    state     TEXT    NOT NULL,
    joined_ms INTEGER NOT NULL,
    seen_ms   INTEGER NOT NULL
) STRICT;

CREATE TABLE join_tokens (
    -- Hex BLAKE3 of the secret.
    digest     TEXT    NOT NULL PRIMARY KEY,
    uses       INTEGER NOT NULL CHECK (uses >= 0),
    expires_ms INTEGER NOT NULL,
    labels     TEXT    NOT NULL
) STRICT;

-- Which slot is where. A slot without a worker is at the centre itself.
CREATE TABLE placements (
    id           TEXT    NOT NULL PRIMARY KEY,
    model        TEXT    NOT NULL,
    version      INTEGER NOT NULL,
    -- Slots of one version are numbered from 0.
    number       INTEGER NOT NULL,
    worker       TEXT,
    memory_bytes INTEGER NOT NULL,
    -- Another takes over.
    leaving      INTEGER NOT NULL,
    -- Why it is where it is, when that needs saying.
    why          TEXT    NOT NULL,
    made_ms      INTEGER NOT NULL
) STRICT;
