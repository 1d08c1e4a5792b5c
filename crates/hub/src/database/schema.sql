-- Times are milliseconds since 1970. Lists are JSON arrays of strings. Of a token, only the
-- SHA-256 is stored.

CREATE TABLE enrolment_tokens (
    id            TEXT PRIMARY KEY,
    tenant        TEXT NOT NULL DEFAULT 'default',
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

-- admitted_by refers to no row: a readmitted agent's token may have been lost with the database.
-- key_pinned_at is the time at which signing_pubkey was pinned, receipt_at that of the last receipt.
-- heartbeat_at is the last heartbeat by the steady clock, and before the first one the enrolment.
CREATE TABLE agents (
    id             TEXT PRIMARY KEY,
    tenant         TEXT NOT NULL DEFAULT 'default',
    name           TEXT,
    token_sha256   BLOB NOT NULL UNIQUE,
    signing_pubkey BLOB UNIQUE,
    key_pinned_at  INTEGER,
    receipt_at     INTEGER,
    readmitted_at  INTEGER,
    admitted_by    TEXT,
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

-- Agents that an operator has deleted. Neither they nor their keys (SHA-256 in hexadecimal) are
-- admitted again, by a token or a receipt.
CREATE TABLE deleted_agents (
    agent_id   TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL DEFAULT 'default',
    key_sha256 TEXT,
    deleted_at INTEGER NOT NULL
) STRICT;
CREATE INDEX deleted_keys ON deleted_agents (key_sha256);

-- An agent's receipts before this time are refused: its key was replaced, or it has unenrolled.
CREATE TABLE receipt_floors (
    agent_id       TEXT PRIMARY KEY,
    tenant         TEXT NOT NULL DEFAULT 'default',
    refused_before INTEGER NOT NULL,
    key_sha256     TEXT,
    is_unenrolled  INTEGER NOT NULL CHECK (is_unenrolled IN (0, 1))
) STRICT;

-- The time during which lost agents are readmitted: one row per tenant, if there ever was one.
-- open_until is the steady clock's.
CREATE TABLE readmission_door (
    tenant        TEXT PRIMARY KEY DEFAULT 'default',
    open_until    INTEGER NOT NULL,
    max_agents    INTEGER NOT NULL CHECK (max_agents >= 1),
    readmitted    INTEGER NOT NULL DEFAULT 0 CHECK (readmitted BETWEEN 0 AND max_agents),
    issued_before INTEGER,
    allowed_cidrs TEXT NOT NULL,
    accepts_lost  INTEGER NOT NULL CHECK (accepts_lost IN (0, 1)),
    is_closed     INTEGER NOT NULL DEFAULT 0 CHECK (is_closed IN (0, 1))
) STRICT;

-- The readmissions that came recently, so that none is accepted twice. Times are the steady clock's.
CREATE TABLE readmissions (
    body_sha256 BLOB PRIMARY KEY,
    tenant      TEXT NOT NULL DEFAULT 'default',
    received_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 3;
