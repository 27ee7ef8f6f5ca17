-- Who does what only one may do at a time. Times are the database's own, so that no two machines have to agree.

CREATE TABLE leases (
    name       TEXT    NOT NULL PRIMARY KEY,
    holder     TEXT    NOT NULL,
    -- Grows by one with each holder and never goes back: what is written under an older one is refused.
    token      INTEGER NOT NULL CHECK (token > 0),
    expires_ms INTEGER NOT NULL,
    -- When what the lease is for was last brought to its end; 0 when it never was.
    done_ms    INTEGER NOT NULL
) STRICT;
