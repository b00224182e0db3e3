-- The nodes that a job of kind `synchronize` is for, as ids separated by spaces; empty: all. And the job that
-- waits until this one has brought its nodes to the version that is live; NULL: an operator asked for it.
ALTER TABLE jobs ADD COLUMN nodes TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN serves INTEGER REFERENCES jobs (id);
CREATE INDEX jobs_that_serve ON jobs (serves);

-- A version may be brought to nodes by more than one assignment: to those that hold the one before it by the
-- difference, later to those that missed it by what they lack. They share the number of the version.
CREATE TABLE assignments_of_runs (
    run INTEGER PRIMARY KEY REFERENCES runs (id),
    id INTEGER NOT NULL,
    site TEXT NOT NULL,
    kind TEXT NOT NULL,
    base INTEGER NOT NULL,
    object TEXT NOT NULL,
    command_len INTEGER NOT NULL,
    data_len INTEGER NOT NULL,
    composed_ns INTEGER NOT NULL
) STRICT;
INSERT INTO assignments_of_runs (run, id, site, kind, base, object, command_len, data_len, composed_ns)
    SELECT run, id, site, kind, base, object, command_len, data_len, composed_ns FROM assignments;
CREATE TABLE committed (
    assignment INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    site TEXT NOT NULL,
    committed_ns INTEGER NOT NULL,
    details TEXT NOT NULL
) STRICT;
INSERT INTO committed (assignment, job, site, committed_ns, details)
    SELECT assignment, job, site, committed_ns, details FROM snapshots;
DROP TABLE snapshots;
DROP TABLE assignments;
ALTER TABLE assignments_of_runs RENAME TO assignments;
ALTER TABLE committed RENAME TO snapshots;
CREATE INDEX assignments_by_id ON assignments (id);
CREATE INDEX assignments_of_site ON assignments (site);

-- What of staging is picked up (ST-6), as JSON; empty: everything.
ALTER TABLE sites ADD COLUMN filter TEXT NOT NULL DEFAULT '';
