-- The version that a job of kind `switch` goes to; 0: what stood in live before the first assignment. NULL for
-- the kinds that find out by themselves what goes live.
ALTER TABLE jobs ADD COLUMN version INTEGER;
