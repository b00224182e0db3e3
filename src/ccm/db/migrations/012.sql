-- What was answered to requests that may be sent again, by who sent them and the key that they carried.
CREATE TABLE answers (
    who TEXT NOT NULL,
    key TEXT NOT NULL,
    -- Of the request.
    digest TEXT NOT NULL,
    body TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    PRIMARY KEY (who, key)
) STRICT;
CREATE INDEX answers_by_age ON answers (at_ns);
