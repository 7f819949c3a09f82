-- Which of a provider's kinds of addresses it is, and since when and why it is not used any more.
ALTER TABLE push_targets ADD COLUMN kind TEXT NOT NULL DEFAULT '';
ALTER TABLE push_targets ADD COLUMN dead_at BIGINT;
ALTER TABLE push_targets ADD COLUMN dead_reason TEXT;

CREATE INDEX push_targets_dead ON push_targets (dead_at) WHERE dead_at IS NOT NULL;

-- When credentials end, and why pushes do not go through an account.
ALTER TABLE provider_accounts ADD COLUMN expires_at BIGINT;
ALTER TABLE provider_accounts ADD COLUMN fault TEXT;
ALTER TABLE provider_accounts ADD COLUMN fault_at BIGINT;
