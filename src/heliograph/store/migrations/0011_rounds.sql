-- What is done now and then, by one process at a time: when it is due again, and how it went. `subject` = of what.
CREATE TABLE rounds (
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    begun BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    completed_at BIGINT,
    fault TEXT,
    PRIMARY KEY (kind, subject)
);

-- Since when complete lists of the upstream lack a device.
ALTER TABLE devices ADD COLUMN missed_at BIGINT;
