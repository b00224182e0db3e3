-- Nodes that say that they lead a segment which another leads: their reports are refused.
CREATE TABLE rivals (
    node TEXT PRIMARY KEY REFERENCES nodes (id) ON DELETE CASCADE,
    segment TEXT NOT NULL,
    -- The first and the last of the refused reports that came without a long pause.
    since_ns INTEGER NOT NULL,
    last_ns INTEGER NOT NULL
) STRICT;
