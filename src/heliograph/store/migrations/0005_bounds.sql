-- The kinds of results that were heard of a command and did not count, as JSON: each stands in its history once.
ALTER TABLE commands ADD COLUMN contradicted TEXT;
