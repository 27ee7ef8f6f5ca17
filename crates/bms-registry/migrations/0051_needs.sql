-- What the operator says that one slot of a deployment needs, as JSON; what is left out is reckoned.
ALTER TABLE deployments ADD COLUMN needs TEXT NOT NULL DEFAULT '{}';

-- Processors that were asked for a slot in its place; a slot that is not here counts as one. A table for itself: servers of the version
-- before read all columns of placements, by statements they have prepared, and go on doing so while they are replaced one after the other.
CREATE TABLE placement_cores (
    id    TEXT    NOT NULL PRIMARY KEY REFERENCES placements (id) ON DELETE CASCADE,
    cores INTEGER NOT NULL CHECK (cores > 0)
) STRICT;
