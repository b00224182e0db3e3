-- What content creators send into staging directories (ST-1). What came of one lies beside the staging directory.
CREATE TABLE uploads (
    id INTEGER PRIMARY KEY,
    site TEXT NOT NULL REFERENCES sites (name),
    -- `replace`, `merge` or `file`
    kind TEXT NOT NULL,
    -- Below staging: the directory that a merge goes to, the path of a file; empty: staging itself.
    into_path TEXT NOT NULL,
    -- The staging directory, without symbolic links.
    staging TEXT NOT NULL,
    -- What was announced: length, NULL for unknown; BLAKE3 and what the sender knows it by, empty for none.
    bytes INTEGER,
    hash TEXT NOT NULL,
    print TEXT NOT NULL,
    -- `open`, `landing`, `done` or `failed`
    state TEXT NOT NULL,
    -- While a replace lands: the inode of the directory that becomes staging.
    inode INTEGER NOT NULL DEFAULT 0,
    files INTEGER NOT NULL DEFAULT 0,
    content_bytes INTEGER NOT NULL DEFAULT 0,
    text TEXT NOT NULL DEFAULT '',
    created_ns INTEGER NOT NULL,
    touched_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX uploads_of_site ON uploads (site);
