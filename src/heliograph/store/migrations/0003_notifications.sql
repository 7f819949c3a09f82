-- How an enterprise's notifications come in: pulled from a subscription, or pushed to us under a token for `push_audience`
-- that names the account `push_email`. `heard_at` = when the last one came.
ALTER TABLE enterprises ADD COLUMN subscription TEXT;
ALTER TABLE enterprises ADD COLUMN push_audience TEXT;
ALTER TABLE enterprises ADD COLUMN push_email TEXT;
ALTER TABLE enterprises ADD COLUMN heard_at BIGINT;

-- When the upstream wrote the last report that this record is from: an older one changes nothing any more.
ALTER TABLE devices ADD COLUMN reported_at BIGINT;

-- An operation belongs to one command, whatever organization claims it. Only issued commands have one.
CREATE UNIQUE INDEX commands_receipt ON commands (receipt) WHERE receipt IS NOT NULL;
