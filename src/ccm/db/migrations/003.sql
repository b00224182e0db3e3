-- Content groups that operators made (DB-4). Beside them every site that was given none has a default group of
-- its own name, which holds every node that reports to host it and stands in no table.
CREATE TABLE content_groups (name TEXT PRIMARY KEY, created_ns INTEGER NOT NULL) STRICT;

-- Whom a group chooses, as the operator wrote it: `web1`, `web*`, `segment:rack1`.
CREATE TABLE group_choices (
    content_group TEXT NOT NULL REFERENCES content_groups (name) ON DELETE CASCADE,
    choice TEXT NOT NULL,
    PRIMARY KEY (content_group, choice)
) STRICT, WITHOUT ROWID;

-- NULL for the default group.
ALTER TABLE sites ADD COLUMN content_group TEXT REFERENCES content_groups (name);

-- Address and port of a group in a segment: what was given stays.
CREATE TABLE group_channels (
    content_group TEXT NOT NULL,
    segment TEXT NOT NULL,
    channel TEXT NOT NULL UNIQUE,
    PRIMARY KEY (content_group, segment)
) STRICT, WITHOUT ROWID;

-- The newest list of each segment, as it was signed: a number stands for one document only (design D10).
CREATE TABLE group_lists (segment TEXT PRIMARY KEY, number INTEGER NOT NULL, document BLOB NOT NULL) STRICT;

-- The list that the node goes by, as its leader reported it.
ALTER TABLE members ADD COLUMN group_list INTEGER NOT NULL DEFAULT 0;
