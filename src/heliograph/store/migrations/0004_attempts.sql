-- The failed attempts of a record, as JSON: they share one line of its history (domain/attempts.py).
ALTER TABLE commands ADD COLUMN attempts TEXT;
ALTER TABLE pushes ADD COLUMN attempts TEXT;

-- A deferred command may not be claimed again before this time; how often it was deferred decides the next pause.
ALTER TABLE commands ADD COLUMN not_before BIGINT;
ALTER TABLE commands ADD COLUMN deferrals BIGINT NOT NULL DEFAULT 0;
