-- The kinds of results that were heard of a command and did not count, as JSON: each stands in its history once.
ALTER TABLE commands ADD COLUMN contradicted TEXT;

-- The API key that made this one; it ends with that key at the latest.
ALTER TABLE api_keys ADD COLUMN created_by TEXT;
