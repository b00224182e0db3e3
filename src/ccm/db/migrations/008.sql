-- What jobs of a site go by unless they say otherwise, and what a job goes by, as JSON of the API.
ALTER TABLE sites ADD COLUMN policy TEXT NOT NULL DEFAULT '{}';
ALTER TABLE jobs ADD COLUMN policy TEXT NOT NULL DEFAULT '{}';
-- The schedule that started it; empty where somebody did.
ALTER TABLE jobs ADD COLUMN schedule TEXT NOT NULL DEFAULT '';
-- Why it starts in spite of a freeze; empty: it does not.
ALTER TABLE jobs ADD COLUMN override_reason TEXT NOT NULL DEFAULT '';

-- Which attempt of its job, from 1, and the time before which it does not start.
ALTER TABLE runs ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
ALTER TABLE runs ADD COLUMN ready_ns INTEGER NOT NULL DEFAULT 0;
-- Ends of runs in the order in which they came; 0 for runs that are not over.
ALTER TABLE runs ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
-- What an operator wished of it: `pause` or `cancel`; empty: nothing. Since when it is paused, 0 where it is not, and how
-- long it was before.
ALTER TABLE runs ADD COLUMN wish TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN paused_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN held_ns INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_by_end ON runs (ended);

-- Jobs that start by themselves (SC, JT-19).
CREATE TABLE schedules (
    name TEXT PRIMARY KEY,
    site TEXT NOT NULL REFERENCES sites (name),
    kind TEXT NOT NULL,
    version INTEGER,
    checksum INTEGER NOT NULL,
    -- `at TIME`, `cron ZONE EXPRESSION`, `change SECONDS`, `after SITE END`
    trigger_text TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    policy TEXT NOT NULL,
    grace_s INTEGER NOT NULL,
    -- What has been dealt with: times, ends of runs, the state of staging.
    since_ns INTEGER NOT NULL,
    seen_end INTEGER NOT NULL,
    staging TEXT NOT NULL DEFAULT '',
    last_job INTEGER NOT NULL DEFAULT 0,
    last_ns INTEGER NOT NULL DEFAULT 0,
    last_text TEXT NOT NULL DEFAULT ''
) STRICT;

-- Times in which no job starts: blackouts, and freezes, which have no end.
CREATE TABLE windows (
    name TEXT PRIMARY KEY,
    -- Empty: every site.
    site TEXT NOT NULL,
    opens TEXT NOT NULL,
    lasts_s INTEGER,
    reason TEXT NOT NULL
) STRICT;
