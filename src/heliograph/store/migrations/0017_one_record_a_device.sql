-- Each name at Google belongs to one record: the name that a device has, and those that it had before it enrolled
-- again. Also the ids of records that turned out to be of the same device, which whoever was told of them may still use.
CREATE TABLE device_names (
    organization_id TEXT NOT NULL,
    name TEXT NOT NULL,
    device_id TEXT NOT NULL,
    PRIMARY KEY (organization_id, name),
    FOREIGN KEY (organization_id, device_id) REFERENCES devices (organization_id, id)
);

CREATE INDEX device_names_of_device ON device_names (organization_id, device_id);

-- The records of one device, but for the oldest, which stays: it is the one that has been brought up to date.
CREATE TABLE doubled_devices AS
SELECT d.organization_id, d.id, d.all_platform_id, d.agent_secret_hash, (
    SELECT k.id FROM devices k WHERE k.organization_id = d.organization_id AND k.external_name = d.external_name
    ORDER BY k.created_at, k.id LIMIT 1) AS kept
FROM devices d WHERE d.external_name IS NOT NULL;
DELETE FROM doubled_devices WHERE id = kept;
CREATE UNIQUE INDEX doubled_devices_id ON doubled_devices (organization_id, id);

-- A lane is `issue:DEVICE:TYPE…`, an id 24 characters.
UPDATE outbox SET lane = 'issue:' || (
    SELECT m.kept FROM doubled_devices m
    WHERE m.organization_id = outbox.organization_id AND m.id = substr(outbox.lane, 7, 24)) || substr(lane, 31)
WHERE lane LIKE 'issue:%'
    AND (organization_id, substr(lane, 7, 24)) IN (SELECT organization_id, id FROM doubled_devices);

-- One look at a device's operations is owed: the first one, if none is for the record that stays.
UPDATE outbox SET lease_until = 0, token = token + 1, subject_id = (
    SELECT m.kept FROM doubled_devices m
    WHERE m.organization_id = outbox.organization_id AND m.id = outbox.subject_id), key = 'look_up:' || (
    SELECT m.kept FROM doubled_devices m
    WHERE m.organization_id = outbox.organization_id AND m.id = outbox.subject_id)
WHERE id IN (
    SELECT min(o.id) FROM outbox o
    JOIN doubled_devices m ON m.organization_id = o.organization_id AND m.id = o.subject_id
    WHERE o.kind = 'look_up' AND NOT EXISTS (
        SELECT 1 FROM outbox k WHERE k.organization_id = m.organization_id AND k.key = 'look_up:' || m.kept)
    GROUP BY m.organization_id, m.kept);
DELETE FROM outbox WHERE kind = 'look_up'
    AND (organization_id, subject_id) IN (SELECT organization_id, id FROM doubled_devices);

UPDATE commands SET version = version + 1, device_id = (
    SELECT m.kept FROM doubled_devices m
    WHERE m.organization_id = commands.organization_id AND m.id = commands.device_id)
WHERE (organization_id, device_id) IN (SELECT organization_id, id FROM doubled_devices);
UPDATE pushes SET version = version + 1, device_id = (
    SELECT m.kept FROM doubled_devices m
    WHERE m.organization_id = pushes.organization_id AND m.id = pushes.device_id)
WHERE (organization_id, device_id) IN (SELECT organization_id, id FROM doubled_devices);

-- Of an app's addresses at one provider the newest stays.
DELETE FROM push_targets WHERE (organization_id, device_id, app, provider) IN (
    SELECT organization_id, device_id, app, provider FROM (
        SELECT t.organization_id, t.device_id, t.app, t.provider, row_number() OVER (
            PARTITION BY t.organization_id, COALESCE(m.kept, t.device_id), t.app, t.provider
            ORDER BY t.registered_at DESC, t.device_id) AS place
        FROM push_targets t
        LEFT JOIN doubled_devices m ON m.organization_id = t.organization_id AND m.id = t.device_id) AS ranked
    WHERE place > 1);
UPDATE push_targets SET device_id = (
    SELECT m.kept FROM doubled_devices m
    WHERE m.organization_id = push_targets.organization_id AND m.id = push_targets.device_id)
WHERE (organization_id, device_id) IN (SELECT organization_id, id FROM doubled_devices);

DELETE FROM devices WHERE (organization_id, id) IN (SELECT organization_id, id FROM doubled_devices);
-- The agent on the device keeps its way in.
UPDATE devices SET agent_secret_hash = (
    SELECT m.agent_secret_hash FROM doubled_devices m
    WHERE m.organization_id = devices.organization_id AND m.kept = devices.id AND m.agent_secret_hash IS NOT NULL
    ORDER BY m.id DESC LIMIT 1)
WHERE agent_secret_hash IS NULL
    AND (organization_id, id) IN (SELECT organization_id, kept FROM doubled_devices);

INSERT INTO device_names (organization_id, name, device_id)
SELECT organization_id, external_name, id FROM devices WHERE external_name IS NOT NULL;
INSERT INTO device_names (organization_id, name, device_id)
SELECT organization_id, id, kept FROM doubled_devices UNION SELECT organization_id, all_platform_id, kept FROM doubled_devices;
DROP TABLE doubled_devices;

DROP INDEX devices_external;
CREATE UNIQUE INDEX devices_external ON devices (organization_id, external_name) WHERE external_name IS NOT NULL;
