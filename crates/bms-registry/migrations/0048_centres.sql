-- Where workers reach the replicas that are there. Times are the database's own.
CREATE TABLE centres (
    -- HOST:PORT.
    address TEXT    NOT NULL PRIMARY KEY,
    seen_ms INTEGER NOT NULL
) STRICT;
