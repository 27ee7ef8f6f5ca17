-- How traffic goes over from one version to another. Times are the database's own.

-- The version an alias pointed at before, for the way back.
ALTER TABLE aliases ADD COLUMN previous INTEGER;

CREATE TABLE rollouts (
    id            INTEGER NOT NULL PRIMARY KEY CHECK (id > 0),
    model         TEXT    NOT NULL REFERENCES models (name),
    alias         TEXT    NOT NULL,
    stable        INTEGER NOT NULL,
    candidate     INTEGER NOT NULL,
    state         TEXT    NOT NULL,
    step          INTEGER NOT NULL CHECK (step >= 0),
    reason        TEXT    NOT NULL,
    -- What was asked for, as JSON.
    asked         TEXT    NOT NULL,
    created_ms    INTEGER NOT NULL,
    step_ms       INTEGER NOT NULL,
    ended_ms      INTEGER,
    -- Until when the version that was replaced stays loaded.
    warm_until_ms INTEGER NOT NULL,
    revision      INTEGER NOT NULL,
    FOREIGN KEY (model, stable) REFERENCES versions (model, version),
    FOREIGN KEY (model, candidate) REFERENCES versions (model, version)
) STRICT;

-- One at a time.
CREATE UNIQUE INDEX rollouts_under_way ON rollouts (model) WHERE ended_ms IS NULL;
CREATE INDEX rollouts_by_model ON rollouts (model, id);

-- What each replica counted in a step, as it stands there. `side` is one of stable, candidate and shadow.
CREATE TABLE rollout_counts (
    rollout  INTEGER NOT NULL REFERENCES rollouts (id),
    step     INTEGER NOT NULL,
    replica  TEXT    NOT NULL,
    side     TEXT    NOT NULL,
    requests INTEGER NOT NULL,
    errors   INTEGER NOT NULL,
    dropped  INTEGER NOT NULL,
    -- Steps of the latency with their counts: `12:3 40:1`.
    latency  TEXT    NOT NULL,
    PRIMARY KEY (rollout, step, replica, side)
) STRICT;
