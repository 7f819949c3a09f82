-- The providers (JSON) that a push went to before the one it goes to now.
ALTER TABLE pushes ADD COLUMN legs TEXT;

-- Whatever way a push went: an agent that comes to us is offered what it has not acknowledged.
DROP INDEX pushes_offered;
CREATE INDEX pushes_offered ON pushes (organization_id, device_id, app, created_at, id)
    WHERE rung IN ('accepted', 'provider_delivered');
