-- Whole copies of sites (VC-7). What they hold lies in the directory `checkpoints`.
CREATE TABLE checkpoints (
    number INTEGER PRIMARY KEY,
    site TEXT NOT NULL REFERENCES sites (name),
    -- What somebody called it; empty: nothing.
    title TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_ns INTEGER NOT NULL,
    files INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    pieces INTEGER NOT NULL,
    -- The hash of its list, and that of its tree.
    manifest TEXT NOT NULL,
    tree TEXT NOT NULL
) STRICT;
CREATE INDEX checkpoints_of_site ON checkpoints (site);

-- What the checkpoint of a job is to be called; empty: nothing.
ALTER TABLE jobs ADD COLUMN title TEXT NOT NULL DEFAULT '';
-- What a job of kind `remove` takes off the nodes, one path in each line; empty: everything.
ALTER TABLE jobs ADD COLUMN paths TEXT NOT NULL DEFAULT '';
