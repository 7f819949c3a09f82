-- What one way has taken and the next one cannot take yet is offered as well.
DROP INDEX pushes_offered;
CREATE INDEX pushes_offered ON pushes (organization_id, device_id, app, created_at, id)
    WHERE (rung IN ('accepted', 'provider_delivered') OR (rung = 'queued' AND legs IS NOT NULL));
