-- What was noted of a command and later decisions go by, as JSON: its history may be full.
--: postgres
ALTER TABLE commands ADD COLUMN findings TEXT COLLATE "C";
--: end
--: sqlite
ALTER TABLE commands ADD COLUMN findings TEXT;
--: end
-- A cancel is answered once; what was missed is looked for again. 0: with which status is in the history.
UPDATE commands SET findings = '{"cancelTaken":true}' WHERE rung = 'issued' AND cancel_requested_at IS NOT NULL
    AND EXISTS (SELECT 1 FROM history h WHERE h.organization_id = commands.organization_id
        AND h.subject_id = commands.id AND h.evidence LIKE '%"cancel":"requested"%');
UPDATE commands SET findings = '{"cancelRefused":0}' WHERE rung = 'issued' AND cancel_requested_at IS NOT NULL
    AND findings IS NULL AND EXISTS (SELECT 1 FROM history h WHERE h.organization_id = commands.organization_id
        AND h.subject_id = commands.id AND h.evidence LIKE '%"cancel":"refused"%');
