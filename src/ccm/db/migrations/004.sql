-- What was decided of a segment: its name as people are shown it, its control channel, who may lead it. `charter`
-- is the number of the document that says so to the nodes; 0 before the first (EL-3, EL-6, NS-14).
ALTER TABLE segments ADD COLUMN title TEXT NOT NULL DEFAULT '';
ALTER TABLE segments ADD COLUMN charter INTEGER NOT NULL DEFAULT 0;
ALTER TABLE segments ADD COLUMN wanted_channel TEXT NOT NULL DEFAULT '';
-- Ids of nodes, separated by spaces; empty: all. Seconds without them until the others vote; -1: never.
ALTER TABLE segments ADD COLUMN leaders TEXT NOT NULL DEFAULT '';
ALTER TABLE segments ADD COLUMN open_after_s INTEGER NOT NULL DEFAULT -1;

-- As its leader reported last: the channel, the charter, and members that do not have that one yet.
ALTER TABLE segments ADD COLUMN channel TEXT NOT NULL DEFAULT '';
ALTER TABLE segments ADD COLUMN reported_charter INTEGER NOT NULL DEFAULT 0;
ALTER TABLE segments ADD COLUMN behind INTEGER NOT NULL DEFAULT 0;

ALTER TABLE members ADD COLUMN leads INTEGER NOT NULL DEFAULT 1;
ALTER TABLE members ADD COLUMN location TEXT NOT NULL DEFAULT '';
ALTER TABLE members ADD COLUMN cpu_mhz INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN load_pct INTEGER NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN connections INTEGER NOT NULL DEFAULT 0;
-- Whether the history last said of it that it is online (NS-6, NS-7).
ALTER TABLE members ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
UPDATE members SET told = online;
CREATE INDEX members_departed ON members (seen_ns) WHERE told = 1 AND online = 0;

-- Nodes whose identity two machines use, and where the one is that stands aside.
CREATE TABLE twins (
    node TEXT PRIMARY KEY REFERENCES nodes (id) ON DELETE CASCADE,
    segment TEXT NOT NULL,
    address TEXT NOT NULL,
    last_ns INTEGER NOT NULL
) STRICT;
