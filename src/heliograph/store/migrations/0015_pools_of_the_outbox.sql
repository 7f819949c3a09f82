-- What is owed by pool, so that a claim can pass over a pool without a look at each of its rows.
CREATE INDEX outbox_pools ON outbox (priority, pool, due_at, id);

--: postgres
-- While nearly everything is owed to one pool, the planner would take it for the only one: expect nothing to be left
-- beside it, and all rows to be of any pool that is asked for.
ALTER TABLE outbox ALTER COLUMN pool SET (n_distinct = 1000);
ANALYZE outbox;
--: end
