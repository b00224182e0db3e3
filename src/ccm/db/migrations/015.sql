-- When the trigger of a schedule was called last from outside (SC-14); 0 before.
ALTER TABLE schedules ADD COLUMN called_ns INTEGER NOT NULL DEFAULT 0;
