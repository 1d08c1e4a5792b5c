-- Times are milliseconds since 1970. Lists are JSON arrays of strings. Of a token, only the
-- SHA-256 is stored.

CREATE TABLE enrolment_tokens (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    token_sha256  BLOB NOT NULL UNIQUE,
    max_uses      INTEGER NOT NULL CHECK (max_uses >= 1),
    uses          INTEGER NOT NULL DEFAULT 0 CHECK (uses BETWEEN 0 AND max_uses),
    default_tags  TEXT NOT NULL,
    default_role  TEXT,
    allowed_cidrs TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    revoked_at    INTEGER
) STRICT;

-- heartbeat_at is the last heartbeat by the steady clock, and before the first one the enrolment.
CREATE TABLE agents (
    id             TEXT PRIMARY KEY,
    name           TEXT,
    token_sha256   BLOB NOT NULL UNIQUE,
    signing_pubkey BLOB UNIQUE,
    admitted_by    TEXT REFERENCES enrolment_tokens (id),
    default_tags   TEXT NOT NULL,
    default_role   TEXT,
    tags           TEXT NOT NULL,
    role           TEXT,
    agent_version  TEXT,
    facts          TEXT,
    last_heartbeat TEXT,
    heartbeat_at   INTEGER,
    metrics_sha256 BLOB,
    metrics_alike  INTEGER NOT NULL DEFAULT 0,
    created_at     INTEGER NOT NULL,
    last_seen_at   INTEGER,
    last_source_ip TEXT
) STRICT;

-- The audit outlives the agents in it, so agent_id refers to no row. A repeated enrolment moves
-- last_used_at and last_source_ip only.
CREATE TABLE enrolment_uses (
    id             INTEGER PRIMARY KEY,
    token_id       TEXT NOT NULL REFERENCES enrolment_tokens (id),
    agent_id       TEXT NOT NULL,
    source_ip      TEXT NOT NULL,
    used_at        INTEGER NOT NULL,
    last_source_ip TEXT NOT NULL,
    last_used_at   INTEGER NOT NULL,
    UNIQUE (token_id, agent_id)
) STRICT;
-- The heartbeats accepted recently, so that none is accepted twice.
CREATE TABLE heartbeats (
    agent_id    TEXT NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    body_sha256 BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (agent_id, body_sha256)
) STRICT, WITHOUT ROWID;

-- The trail outlives the agents in it too. One open row per agent and kind, with a counter, so that
-- a broken clock does not fill the disk. silent_since is the heartbeat_at of the agent's last silence.
CREATE TABLE anomalies (
    id            INTEGER PRIMARY KEY,
    agent_id      TEXT NOT NULL,
    kind          TEXT NOT NULL,
    severity      TEXT NOT NULL,
    detail        TEXT NOT NULL,
    source_ip     TEXT,
    occurrences   INTEGER NOT NULL DEFAULT 1,
    silent_since  INTEGER,
    first_seen_at INTEGER NOT NULL,
    last_seen_at  INTEGER NOT NULL,
    resolved_at   INTEGER,
    resolved_by   TEXT,
    note          TEXT
) STRICT;

CREATE INDEX enrolment_uses_last ON enrolment_uses (token_id, last_used_at);
CREATE UNIQUE INDEX anomalies_open ON anomalies (agent_id, kind) WHERE resolved_at IS NULL;
CREATE INDEX anomalies_of_agent ON anomalies (agent_id, kind, silent_since);
CREATE INDEX agents_heartbeat_at ON agents (heartbeat_at);

PRAGMA user_version = 3;
