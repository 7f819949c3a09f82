-- A claim changes lease, token and attempts only. Without an index over any of them PostgreSQL rewrites the row on its
-- own page and touches no index, and SQLite writes one page; the room for that is kept free.
DROP INDEX outbox_leased;

--: postgres
ALTER TABLE outbox SET (fillfactor = 70);

-- It only said that the organization exists, which the records that the effects are about say already, and made every
-- process lock that one row for every effect owed: a fifth of the cost of a batch.
ALTER TABLE outbox DROP CONSTRAINT outbox_organization_id_fkey;
--: end
