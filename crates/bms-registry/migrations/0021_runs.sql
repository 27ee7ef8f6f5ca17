-- Experiments, their runs, and what was logged of them.

CREATE TABLE experiments (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id >= 0),
    name       TEXT    NOT NULL UNIQUE,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    deleted_ms INTEGER
) STRICT;

INSERT INTO experiments (id, name, created_ms, updated_ms) VALUES (0, 'Default', 0, 0);

CREATE TABLE experiment_tags (
    experiment INTEGER NOT NULL REFERENCES experiments (id),
    key        TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    PRIMARY KEY (experiment, key)
) STRICT;

CREATE TABLE runs (
    id         TEXT    NOT NULL PRIMARY KEY,
    experiment INTEGER NOT NULL REFERENCES experiments (id),
    name       TEXT    NOT NULL,
    person     TEXT    NOT NULL,
    status     TEXT    NOT NULL,
    start_ms   INTEGER NOT NULL,
    end_ms     INTEGER,
    created_ms INTEGER NOT NULL,
    deleted_ms INTEGER
) STRICT;

CREATE INDEX runs_by_experiment ON runs (experiment, start_ms);

CREATE TABLE run_params (
    run   TEXT NOT NULL REFERENCES runs (id),
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, key)
) STRICT;

CREATE TABLE run_tags (
    run   TEXT NOT NULL REFERENCES runs (id),
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, key)
) STRICT;

-- Every value, once. `bits` are those of the double: neither database compares NaN as the other does.
CREATE TABLE run_metrics (
    run   TEXT    NOT NULL REFERENCES runs (id),
    key   TEXT    NOT NULL,
    step  INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    bits  INTEGER NOT NULL,
    PRIMARY KEY (run, key, step, at_ms, bits)
) STRICT;

-- The last value of each metric, for searches; `value` is null for NaN.
CREATE TABLE run_latest (
    run   TEXT    NOT NULL REFERENCES runs (id),
    key   TEXT    NOT NULL,
    step  INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    bits  INTEGER NOT NULL,
    value REAL,
    PRIMARY KEY (run, key)
) STRICT;

-- Data sets and models that went into a run or came out of it, as the client described them.
CREATE TABLE run_links (
    run     TEXT    NOT NULL REFERENCES runs (id),
    kind    TEXT    NOT NULL CHECK (kind IN ('data', 'model-in', 'model-out')),
    id      TEXT    NOT NULL,
    details TEXT    NOT NULL,
    PRIMARY KEY (run, kind, id)
) STRICT;

-- A model that a run logged, before anybody registers it.
CREATE TABLE logged_models (
    id         TEXT    NOT NULL PRIMARY KEY,
    experiment INTEGER NOT NULL REFERENCES experiments (id),
    name       TEXT    NOT NULL,
    model_type TEXT    NOT NULL,
    run        TEXT,
    status     TEXT    NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    deleted_ms INTEGER
) STRICT;

CREATE INDEX logged_models_by_experiment ON logged_models (experiment);

CREATE TABLE logged_model_facts (
    model TEXT NOT NULL REFERENCES logged_models (id),
    kind  TEXT NOT NULL CHECK (kind IN ('tag', 'param')),
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model, kind, key)
) STRICT;

-- Files of runs and logged models, as they came: nobody has judged them yet.
CREATE TABLE artifacts (
    -- A run or a logged model.
    owner  TEXT    NOT NULL,
    path   TEXT    NOT NULL,
    size   INTEGER NOT NULL CHECK (size >= 0),
    blake3 TEXT    NOT NULL,
    at_ms  INTEGER NOT NULL,
    PRIMARY KEY (owner, path)
) STRICT;

CREATE INDEX artifacts_by_blake3 ON artifacts (blake3);
