-- How much may be sent while a window is open, in bytes per second; NULL: no job starts while it is.
ALTER TABLE windows ADD COLUMN rate INTEGER;
