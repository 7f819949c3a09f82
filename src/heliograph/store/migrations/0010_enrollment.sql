-- Sign-ups at Google that no enterprise is connected from yet. `listed`: the project's enterprises (JSON) before the
-- first attempt to make one.
CREATE TABLE sign_ups (
    id TEXT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    listed TEXT,
    PRIMARY KEY (organization_id, id),
    UNIQUE (organization_id, project)
);

-- Enrollment tokens that were made here, without their values.
CREATE TABLE enrollment_tokens (
    id TEXT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    enterprise_id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    additional_data TEXT,
    policy_name TEXT,
    personal_usage TEXT,
    one_time_only INTEGER NOT NULL CHECK (one_time_only IN (0, 1)),
    PRIMARY KEY (organization_id, id),
    UNIQUE (organization_id, name),
    FOREIGN KEY (organization_id, enterprise_id) REFERENCES enterprises (organization_id, id)
);

CREATE INDEX enrollment_tokens_in_order ON enrollment_tokens (organization_id, created_at, id);
