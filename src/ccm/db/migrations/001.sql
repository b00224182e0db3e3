-- Ids of nodes are hexadecimal text; numbers beyond 63 bits (epochs, sequences) are stored bit for bit.
-- Times are nanoseconds since 1970.

-- Numbers that are never used twice: job, run, assignment, order (AS-6).
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;

CREATE TABLE sites (
    name TEXT PRIMARY KEY,
    staging TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 0,
    files INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    created_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    public_key TEXT NOT NULL,
    can_lead INTEGER NOT NULL,
    joined_ns INTEGER NOT NULL,
    -- The last request that was accepted from it: an older one is a replay (T2).
    boot INTEGER NOT NULL DEFAULT 0,
    seq INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE segments (
    name TEXT PRIMARY KEY,
    leader TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    reported_ns INTEGER NOT NULL
) STRICT;

-- Which node was last seen in which segment, and how (NS-3, NS-4).
CREATE TABLE members (
    node TEXT PRIMARY KEY REFERENCES nodes (id) ON DELETE CASCADE,
    segment TEXT NOT NULL REFERENCES segments (name),
    online INTEGER NOT NULL,
    seen_ns INTEGER NOT NULL,
    datagram TEXT NOT NULL,
    http TEXT NOT NULL,
    text TEXT NOT NULL,
    priority INTEGER NOT NULL,
    processors INTEGER NOT NULL,
    free_memory INTEGER NOT NULL,
    free_disk INTEGER NOT NULL
) STRICT;
CREATE INDEX members_of_segment ON members (segment);

-- Sites that a node serves, and the version that is live there; 0 for none.
CREATE TABLE node_sites (
    node TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    site TEXT NOT NULL,
    version INTEGER NOT NULL,
    -- When the node itself said that it switched to it: a leader's picture may be a moment older.
    switched_ns INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (node, site)
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    site TEXT NOT NULL REFERENCES sites (name),
    created_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    job INTEGER NOT NULL REFERENCES jobs (id),
    site TEXT NOT NULL,
    phase TEXT NOT NULL,
    text TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    started_ns INTEGER NOT NULL DEFAULT 0,
    finished_ns INTEGER NOT NULL DEFAULT 0,
    -- What composing found, as JSON; empty before.
    composition TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX runs_of_job ON runs (job);
CREATE INDEX runs_by_phase ON runs (phase);

-- Nodes that were online when the run was composed, and what they reported (SR-14).
CREATE TABLE run_nodes (
    run INTEGER NOT NULL REFERENCES runs (id),
    node TEXT NOT NULL,
    name TEXT NOT NULL,
    segment TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    text TEXT NOT NULL,
    changed_ns INTEGER NOT NULL,
    switched_ns INTEGER NOT NULL,
    PRIMARY KEY (run, node)
) STRICT, WITHOUT ROWID;

CREATE TABLE assignments (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL UNIQUE REFERENCES runs (id),
    site TEXT NOT NULL,
    kind TEXT NOT NULL,
    base INTEGER NOT NULL,
    object TEXT NOT NULL,
    command_len INTEGER NOT NULL,
    data_len INTEGER NOT NULL,
    composed_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX assignments_of_site ON assignments (site);

-- Signed orders: what was sent is what is sent again after a restart (design D10).
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL UNIQUE REFERENCES runs (id),
    document BLOB NOT NULL,
    at_ns INTEGER NOT NULL
) STRICT;

-- One line per committed assignment; no content (VC-3, VC-4).
CREATE TABLE snapshots (
    assignment INTEGER PRIMARY KEY REFERENCES assignments (id),
    job INTEGER NOT NULL,
    site TEXT NOT NULL,
    committed_ns INTEGER NOT NULL,
    details TEXT NOT NULL
) STRICT;

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ns INTEGER NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;

-- One-time tokens; `used_by` is the node that joined with it, which alone may ask again.
CREATE TABLE invites (
    id TEXT PRIMARY KEY,
    token TEXT NOT NULL,
    node TEXT NOT NULL,
    can_lead INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL,
    used_by TEXT NOT NULL DEFAULT ''
) STRICT;
