-- Where an update is split (AS-13): the assignments before the one that goes live, as JSON; how many of them are decided;
-- since when the next one is sent; whether their files lie among the objects.
ALTER TABLE runs ADD COLUMN parts TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN part INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN part_ns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN parts_lie INTEGER NOT NULL DEFAULT 0;
