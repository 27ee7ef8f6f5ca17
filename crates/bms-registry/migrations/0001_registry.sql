-- Models, their immutable versions, and what points at them.
-- Times are milliseconds since 1970; digests are lower-case hex BLAKE3.

CREATE TABLE models (
    name       TEXT    NOT NULL PRIMARY KEY,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE versions (
    model       TEXT    NOT NULL REFERENCES models (name),
    version     INTEGER NOT NULL CHECK (version > 0),
    -- The manifest's digest. The manifest holds the model's name, so it is unique over all models.
    digest      TEXT    NOT NULL UNIQUE,
    task        TEXT    NOT NULL,
    size_bytes  INTEGER NOT NULL CHECK (size_bytes >= 0),
    signer      TEXT,
    signer_key  TEXT,
    -- 1 when a development policy let it pass without a trusted signature.
    development INTEGER NOT NULL CHECK (development IN (0, 1)),
    -- The parent may be unknown here, so this is no foreign key.
    parent      TEXT,
    created_ms  INTEGER NOT NULL,
    PRIMARY KEY (model, version)
) STRICT;

CREATE TABLE version_files (
    model   TEXT    NOT NULL,
    version INTEGER NOT NULL,
    path    TEXT    NOT NULL,
    size    INTEGER NOT NULL CHECK (size >= 0),
    blake3  TEXT    NOT NULL,
    PRIMARY KEY (model, version, path),
    FOREIGN KEY (model, version) REFERENCES versions (model, version)
) STRICT;

-- Quarantine asks whether any version still needs a file.
CREATE INDEX version_files_by_blake3 ON version_files (blake3);

CREATE TABLE evaluations (
    model       TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    -- Order in the manifest, from 0.
    position    INTEGER NOT NULL,
    data_digest TEXT    NOT NULL,
    data_name   TEXT    NOT NULL,
    metric      TEXT    NOT NULL,
    value       REAL    NOT NULL,
    PRIMARY KEY (model, version, position, metric),
    FOREIGN KEY (model, version) REFERENCES versions (model, version)
) STRICT;

CREATE TABLE aliases (
    model      TEXT    NOT NULL,
    alias      TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (model, alias),
    FOREIGN KEY (model, version) REFERENCES versions (model, version)
) STRICT;

CREATE TABLE deployments (
    model      TEXT    NOT NULL PRIMARY KEY,
    alias      TEXT    NOT NULL,
    updated_ms INTEGER NOT NULL,
    FOREIGN KEY (model, alias) REFERENCES aliases (model, alias)
) STRICT;
