-- What people say about models and versions, the stages versions go through, and how they end.

ALTER TABLE models ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE models ADD COLUMN updated_ms INTEGER;
-- When it was deleted. It and its versions can be restored until they are purged.
ALTER TABLE models ADD COLUMN deleted_ms INTEGER;

-- `bundle`: it passed the gate and can be served. `artifacts`: files that were scanned, and cannot be.
ALTER TABLE versions ADD COLUMN kind TEXT NOT NULL DEFAULT 'bundle' CHECK (kind IN ('bundle', 'artifacts'));
ALTER TABLE versions ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN updated_ms INTEGER;
ALTER TABLE versions ADD COLUMN stage TEXT NOT NULL DEFAULT 'none';
-- Where it was registered from, and the run that made it.
ALTER TABLE versions ADD COLUMN source TEXT;
ALTER TABLE versions ADD COLUMN run TEXT;
-- The job that made it, by its manifest.
ALTER TABLE versions ADD COLUMN job TEXT;
ALTER TABLE versions ADD COLUMN deleted_ms INTEGER;
-- Its files are gone for good. The row stays, so that its number is never given again, under a digest of no bundle.
ALTER TABLE versions ADD COLUMN purged_ms INTEGER;
ALTER TABLE versions ADD COLUMN purged_digest TEXT;

CREATE INDEX versions_by_parent ON versions (parent);

-- Data sets that versions were trained on, by their manifests.
CREATE TABLE version_data (
    model   TEXT    NOT NULL,
    version INTEGER NOT NULL,
    digest  TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    PRIMARY KEY (model, version, digest),
    FOREIGN KEY (model, version) REFERENCES versions (model, version)
) STRICT;

CREATE INDEX version_data_by_digest ON version_data (digest);

CREATE TABLE model_tags (
    model TEXT NOT NULL REFERENCES models (name),
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (model, key)
) STRICT;

CREATE TABLE version_tags (
    model   TEXT    NOT NULL,
    version INTEGER NOT NULL,
    key     TEXT    NOT NULL,
    value   TEXT    NOT NULL,
    PRIMARY KEY (model, version, key),
    FOREIGN KEY (model, version) REFERENCES versions (model, version)
) STRICT;

-- How many people have to agree before a version enters a stage. A rule for one model goes before that for all (``).
CREATE TABLE stage_rules (
    model     TEXT    NOT NULL,
    stage     TEXT    NOT NULL,
    approvals INTEGER NOT NULL CHECK (approvals >= 0),
    PRIMARY KEY (model, stage)
) STRICT;

CREATE TABLE transitions (
    id           INTEGER NOT NULL PRIMARY KEY CHECK (id > 0),
    model        TEXT    NOT NULL,
    version      INTEGER NOT NULL,
    from_stage   TEXT    NOT NULL,
    to_stage     TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('pending', 'done', 'rejected', 'outdated')),
    requested_by TEXT    NOT NULL,
    comment      TEXT    NOT NULL,
    requested_ms INTEGER NOT NULL,
    decided_ms   INTEGER,
    -- The other versions of the stage go to `archived` along with it.
    archive_others INTEGER NOT NULL CHECK (archive_others IN (0, 1)),
    FOREIGN KEY (model, version) REFERENCES versions (model, version)
) STRICT;

CREATE TABLE approvals (
    transition INTEGER NOT NULL REFERENCES transitions (id),
    person     TEXT    NOT NULL,
    comment    TEXT    NOT NULL,
    at_ms      INTEGER NOT NULL,
    PRIMARY KEY (transition, person)
) STRICT;

-- Which versions may go by themselves. A rule for one model goes before that for all (``).
CREATE TABLE retention_rules (
    model         TEXT    NOT NULL PRIMARY KEY,
    keep_last     INTEGER NOT NULL CHECK (keep_last >= 0),
    older_than_ms INTEGER NOT NULL CHECK (older_than_ms >= 0),
    purge_after_ms INTEGER CHECK (purge_after_ms >= 0)
) STRICT;
