-- Keys of callers, and what they used. A secret is in here as its hash only.

CREATE TABLE api_keys (
    -- The beginning of the secret, by which it is known.
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    -- BLAKE3 of the whole secret.
    hash       TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    -- As JSON.
    limits     TEXT    NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    revoked_ms INTEGER,
    -- Grows with every change of the key: the sum over all keys says whether anything changed.
    revision   INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX api_keys_by_name ON api_keys (name) WHERE revoked_ms IS NULL;

-- What each process of a server counted on a day of UTC, as it stands there.
CREATE TABLE api_key_uses (
    day      INTEGER NOT NULL,
    key_id   TEXT    NOT NULL REFERENCES api_keys (id),
    replica  TEXT    NOT NULL,
    requests INTEGER NOT NULL,
    tokens   INTEGER NOT NULL,
    PRIMARY KEY (day, key_id, replica)
) STRICT;

-- The processes that count, with when they were last heard by the database's clock.
CREATE TABLE api_key_replicas (
    replica TEXT    NOT NULL PRIMARY KEY,
    seen_ms INTEGER NOT NULL
) STRICT;
