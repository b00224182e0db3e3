-- What a line of the history is, for those who are notified; empty: nothing that anybody is told of.
ALTER TABLE events ADD COLUMN kind TEXT NOT NULL DEFAULT '';
CREATE INDEX events_to_tell ON events (id) WHERE kind != '';

-- Who is notified, and of what last. What is beyond that waits in the history.
CREATE TABLE receivers (
    name TEXT PRIMARY KEY,
    -- Events up to this one have been dealt with.
    seen INTEGER NOT NULL,
    -- Tries of the next one in vain, the last reason, since when, and before when there is no other.
    tries INTEGER NOT NULL DEFAULT 0,
    failure TEXT NOT NULL DEFAULT '',
    failing_ns INTEGER NOT NULL DEFAULT 0,
    next_ns INTEGER NOT NULL DEFAULT 0,
    -- Events that were delivered, when last, and that were given up.
    delivered INTEGER NOT NULL DEFAULT 0,
    delivered_ns INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0
) STRICT;
