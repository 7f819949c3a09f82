-- Effects that go through the same enterprise or account share a pool, so that one of those that hangs cannot take every
-- place; and what somebody waits for goes before what can wait.
ALTER TABLE outbox ADD COLUMN pool TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN priority BIGINT NOT NULL DEFAULT 1;
ALTER TABLE dead_letters ADD COLUMN pool TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN priority BIGINT NOT NULL DEFAULT 1;

DROP INDEX outbox_due;
CREATE INDEX outbox_due ON outbox (priority, due_at, id);
