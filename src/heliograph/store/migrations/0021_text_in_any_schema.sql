--: postgres
-- As 0019, in a schema whose name has capitals (that of a role, say): 0019 took the name for one in lower case, and found
-- no table.
DO $$ DECLARE one RECORD; BEGIN
FOR one IN
    SELECT a.attrelid::regclass AS name,
        string_agg(format('ALTER COLUMN %I TYPE TEXT COLLATE "C"', a.attname), ', ') AS changes
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relname IN (
        'schema_migrations', 'secret_key', 'organizations', 'api_keys', 'enterprises', 'provider_accounts', 'devices',
        'device_names', 'push_targets', 'commands', 'pushes', 'history', 'outbox', 'dead_letters', 'quotas', 'sign_ups',
        'enrollment_tokens', 'rounds')
    AND a.atttypid = 'text'::regtype AND NOT a.attisdropped AND a.attcollation <> 'pg_catalog."C"'::regcollation
    GROUP BY a.attrelid
LOOP EXECUTE format('ALTER TABLE %s %s; ANALYZE %1$s', one.name, one.changes); END LOOP; END $$;
--: end
