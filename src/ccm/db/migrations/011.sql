-- Who may use the API from afar. A token's secret is not kept, only its hash.
CREATE TABLE tokens (
    name TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    -- Names of the sites that it is for, separated by spaces; empty: the whole farm.
    sites TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_ns INTEGER NOT NULL,
    -- When it was used last, to some minutes; 0: never.
    used_ns INTEGER NOT NULL DEFAULT 0,
    -- When it was revoked; 0: it was not.
    revoked_ns INTEGER NOT NULL DEFAULT 0
) STRICT;

-- Who changed what, and who was refused.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at_ns INTEGER NOT NULL,
    who TEXT NOT NULL,
    origin TEXT NOT NULL,
    method TEXT NOT NULL,
    route TEXT NOT NULL,
    -- Empty: of no site, or of all.
    site TEXT NOT NULL,
    detail TEXT NOT NULL,
    -- Of the answer; 0: nobody knows how it ended.
    status INTEGER NOT NULL,
    -- Whether it was refused for want of a right.
    refused INTEGER NOT NULL,
    -- Requests that this line stands for, and when the last of them was.
    count INTEGER NOT NULL,
    last_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_by_kind ON audit (refused, id);
