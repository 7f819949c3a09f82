-- What is left of each Google project's requests, shared by all processes: millionths of a request, as of `at`.
-- `granted`: how many were given out last.
CREATE TABLE quotas (
    project TEXT NOT NULL PRIMARY KEY,
    tokens BIGINT NOT NULL,
    at BIGINT NOT NULL,
    granted BIGINT NOT NULL
);
