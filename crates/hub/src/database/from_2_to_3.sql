-- Brings a file of schema 2 to schema 3. The new tables are those of schema.sql, letter by letter.
-- Foreign keys are off meanwhile, so that agents is replaced without its heartbeats.

ALTER TABLE enrolment_tokens ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';

CREATE TABLE agents_3 (
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
INSERT INTO agents_3 (id, name, token_sha256, signing_pubkey, key_pinned_at, admitted_by, default_tags,
                      default_role, tags, role, agent_version, facts, last_heartbeat, heartbeat_at,
                      metrics_sha256, metrics_alike, created_at, last_seen_at)
    SELECT id, name, token_sha256, signing_pubkey, iif(signing_pubkey IS NULL, NULL, created_at),
           admitted_by, default_tags, default_role, tags, role, agent_version, facts, last_heartbeat,
           heartbeat_at, metrics_sha256, metrics_alike, created_at, last_seen_at
      FROM agents ORDER BY rowid;
DROP TABLE agents;
ALTER TABLE agents_3 RENAME TO agents;

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

-- A host that has enrolled but sent no heartbeat is expected from now on too.
UPDATE agents SET heartbeat_at = last_seen_at WHERE heartbeat_at IS NULL;

ALTER TABLE enrolment_uses RENAME TO enrolment_uses_2;
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
INSERT INTO enrolment_uses
SELECT id, token_id, agent_id, source_ip, used_at, source_ip, used_at FROM enrolment_uses_2;
DROP TABLE enrolment_uses_2;

ALTER TABLE anomalies RENAME TO anomalies_2;
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
INSERT INTO anomalies (id, agent_id, kind, severity, detail, source_ip, occurrences, first_seen_at,
                       last_seen_at)
SELECT id, agent_id, kind,
       CASE kind WHEN 'signature_invalid' THEN 'critical'
                 WHEN 'unsigned_payload' THEN 'high'
                 WHEN 'version_downgrade' THEN 'high'
                 ELSE 'medium' END,
       detail, source_ip, occurrences, first_seen_at, last_seen_at
  FROM anomalies_2;
DROP TABLE anomalies_2;

CREATE INDEX enrolment_uses_last ON enrolment_uses (token_id, last_used_at);
CREATE UNIQUE INDEX anomalies_open ON anomalies (agent_id, kind) WHERE resolved_at IS NULL;
CREATE INDEX anomalies_of_agent ON anomalies (agent_id, kind, silent_since);
CREATE INDEX agents_heartbeat_at ON agents (heartbeat_at);

PRAGMA user_version = 3;
