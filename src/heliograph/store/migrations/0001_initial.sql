-- Times are microseconds since the epoch (UTC), ids 24 hex digits, JSON is text. Every table begins with the
-- organization; composite foreign keys keep a row of one organization from naming a record of another.

CREATE TABLE heartbeat (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    beats BIGINT NOT NULL
);

INSERT INTO heartbeat (id, beats) VALUES (1, 0);

-- By which the key that seals the secrets in this database is recognised.
CREATE TABLE secret_key (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    fingerprint TEXT NOT NULL
);

CREATE TABLE organizations (
    id TEXT NOT NULL PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    features TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    prefix TEXT NOT NULL,
    permissions TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    hash BYTEA NOT NULL UNIQUE
);

CREATE INDEX api_keys_of_organization ON api_keys (organization_id, created_at, id);

CREATE TABLE enterprises (
    id TEXT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    platform TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    credentials BYTEA,
    api_url TEXT,
    PRIMARY KEY (organization_id, id),
    UNIQUE (organization_id, name)
);

CREATE TABLE provider_accounts (
    id TEXT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    provider TEXT NOT NULL,
    name TEXT NOT NULL,
    config BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    is_default INTEGER NOT NULL CHECK (is_default IN (0, 1)),
    disabled_at BIGINT,
    PRIMARY KEY (organization_id, id)
);

CREATE UNIQUE INDEX provider_accounts_default ON provider_accounts (organization_id, provider) WHERE is_default = 1;

CREATE TABLE devices (
    id TEXT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    all_platform_id TEXT NOT NULL,
    platform TEXT NOT NULL,
    enterprise_id TEXT,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    external_name TEXT,
    serial_number TEXT,
    imei TEXT,
    enrollment_specific_id TEXT,
    management_mode TEXT,
    ownership TEXT,
    provider_account_id TEXT,
    mdm_user_id TEXT,
    last_seen_at BIGINT,
    facts TEXT NOT NULL,
    agent_secret_hash BYTEA UNIQUE,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, enterprise_id) REFERENCES enterprises (organization_id, id),
    FOREIGN KEY (organization_id, provider_account_id) REFERENCES provider_accounts (organization_id, id)
);

CREATE INDEX devices_in_order ON devices (organization_id, created_at, id);
CREATE INDEX devices_all_platform ON devices (organization_id, all_platform_id);
CREATE INDEX devices_serial ON devices (organization_id, serial_number) WHERE serial_number IS NOT NULL;
CREATE INDEX devices_imei ON devices (organization_id, imei) WHERE imei IS NOT NULL;
CREATE INDEX devices_enrollment ON devices (organization_id, enrollment_specific_id)
    WHERE enrollment_specific_id IS NOT NULL;
CREATE INDEX devices_external ON devices (organization_id, external_name) WHERE external_name IS NOT NULL;

CREATE TABLE push_targets (
    organization_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    app TEXT NOT NULL,
    provider TEXT NOT NULL,
    account_id TEXT,
    token TEXT NOT NULL,
    registered_at BIGINT NOT NULL,
    PRIMARY KEY (organization_id, device_id, app, provider),
    FOREIGN KEY (organization_id, device_id) REFERENCES devices (organization_id, id),
    FOREIGN KEY (organization_id, account_id) REFERENCES provider_accounts (organization_id, id)
);

CREATE TABLE commands (
    id TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    enterprise_id TEXT NOT NULL,
    platform TEXT NOT NULL,
    type TEXT NOT NULL,
    params TEXT NOT NULL,
    duration_us BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    rung TEXT NOT NULL CHECK (rung IN (
        'queued', 'held', 'scheduled', 'issued', 'deferred', 'delivered', 'acknowledged', 'running', 'succeeded', 'failed',
        'expired_undelivered', 'expired_running', 'cancelled', 'superseded', 'undeliverable'
    )),
    rung_at BIGINT NOT NULL,
    mdm_user_id TEXT,
    secret BYTEA,
    cancel_requested_at BIGINT,
    issue TEXT NOT NULL CHECK (issue IN ('idle', 'open', 'bound')),
    issue_at BIGINT,
    receipt TEXT,
    operation TEXT,
    reason TEXT,
    push_id TEXT,
    entries BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, device_id) REFERENCES devices (organization_id, id),
    FOREIGN KEY (organization_id, enterprise_id) REFERENCES enterprises (organization_id, id)
);

CREATE INDEX commands_in_order ON commands (organization_id, device_id, created_at, id);

-- The two below hold only what is live: their size, and the cost of asking them, does not grow with history.
CREATE INDEX commands_live ON commands (organization_id, device_id, created_at, id)
    WHERE rung IN ('queued', 'held', 'scheduled', 'issued', 'deferred', 'delivered', 'acknowledged', 'running');

-- Without those that an upstream operation decides: nobody else may say that they ran out of time.
CREATE INDEX commands_expiring ON commands (expires_at, id)
    WHERE rung IN ('queued', 'held', 'scheduled', 'issued', 'deferred', 'delivered', 'acknowledged', 'running')
    AND (platform <> 'android' OR issue = 'idle');

CREATE TABLE pushes (
    id TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    app TEXT NOT NULL,
    kind TEXT NOT NULL,
    provider TEXT NOT NULL,
    account_id TEXT,
    message TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    rung TEXT NOT NULL CHECK (rung IN (
        'queued', 'accepted', 'provider_delivered', 'acknowledged', 'executed', 'collapsed', 'revoked', 'expired', 'rejected'
    )),
    rung_at BIGINT NOT NULL,
    command_id TEXT,
    reference TEXT,
    sent_at BIGINT,
    provider_expires_at BIGINT,
    pending_devices BIGINT,
    answer_at BIGINT,
    reason TEXT,
    entries BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, device_id) REFERENCES devices (organization_id, id),
    FOREIGN KEY (organization_id, command_id) REFERENCES commands (organization_id, id),
    FOREIGN KEY (organization_id, account_id) REFERENCES provider_accounts (organization_id, id)
);

CREATE INDEX pushes_of_command ON pushes (organization_id, command_id, created_at, id) WHERE command_id IS NOT NULL;
CREATE INDEX pushes_offered ON pushes (organization_id, device_id, app, created_at, id)
    WHERE provider = 'builtin' AND rung IN ('accepted', 'provider_delivered');
CREATE INDEX pushes_expiring ON pushes (expires_at, id) WHERE rung IN ('queued', 'accepted');

CREATE TABLE history (
    organization_id TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    rung TEXT NOT NULL,
    at BIGINT NOT NULL,
    source TEXT NOT NULL,
    evidence TEXT NOT NULL,
    PRIMARY KEY (organization_id, subject_id, seq)
);

CREATE TABLE outbox (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    kind TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    token BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    lane TEXT,
    key TEXT,
    UNIQUE (organization_id, key)
);

CREATE INDEX outbox_due ON outbox (due_at, id);
CREATE INDEX outbox_leased ON outbox (lease_until) WHERE lease_until > 0;
CREATE INDEX outbox_lanes ON outbox (lane, id) WHERE lane IS NOT NULL;

CREATE TABLE dead_letters (
    id TEXT NOT NULL PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    kind TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    token BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    lane TEXT,
    key TEXT,
    reason TEXT NOT NULL,
    died_at BIGINT NOT NULL
);

CREATE INDEX dead_letters_newest ON dead_letters (died_at, id);

--: postgres
-- Small tables whose rows are rewritten all the time: leave room for the next version of a row on its page, and clean
-- up after a few thousand dead rows instead of a fifth of the table.
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
ALTER TABLE commands SET (fillfactor = 85);
ALTER TABLE pushes SET (fillfactor = 85);
--: end
