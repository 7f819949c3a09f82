--: postgres
-- Text is compared byte by byte, as in SQLite, whatever the language of the database: only so are ids in the order in
-- which they were minted. In Danish aa goes behind z, in Czech digits go behind letters. All columns, because one cannot
-- be looked up in an index by another that has other rules. What was known of their values is lost with the old rules.
DO $$ DECLARE one RECORD; BEGIN
FOR one IN
    SELECT a.attrelid::regclass AS name,
        string_agg(format('ALTER COLUMN %I TYPE TEXT COLLATE "C"', a.attname), ', ') AS changes
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = to_regnamespace(current_schema()) AND c.relname IN (
        'schema_migrations', 'secret_key', 'organizations', 'api_keys', 'enterprises', 'provider_accounts', 'devices',
        'device_names', 'push_targets', 'commands', 'pushes', 'history', 'outbox', 'dead_letters', 'quotas', 'sign_ups',
        'enrollment_tokens', 'rounds')
    AND a.atttypid = 'text'::regtype AND NOT a.attisdropped
    GROUP BY a.attrelid
LOOP EXECUTE format('ALTER TABLE %s %s; ANALYZE %1$s', one.name, one.changes); END LOOP; END $$;
--: end
