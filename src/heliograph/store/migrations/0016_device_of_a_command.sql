-- Google's name of the device that a command is for: the one that was meant, then the one that its last attempt went to.
ALTER TABLE commands ADD COLUMN device_name TEXT;
UPDATE commands SET device_name = (SELECT d.external_name FROM devices d WHERE d.id = commands.device_id)
    WHERE platform = 'android' AND issue <> 'bound' AND rung IN ('queued', 'held', 'scheduled');
-- What may have erased a device is looked for before the next such command, however many others there are.
CREATE INDEX commands_erasing ON commands (organization_id, device_id, created_at, id)
    WHERE type IN ('RELINQUISH_OWNERSHIP', 'WIPE');
