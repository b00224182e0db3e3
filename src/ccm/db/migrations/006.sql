-- Whether a job of kind `publish` reads all files, also those that look as they did when they were read last.
ALTER TABLE jobs ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
