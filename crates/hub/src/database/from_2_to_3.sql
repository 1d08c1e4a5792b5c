-- From schema 2: last use of agents and tokens; anomalies that are open until they are resolved.

ALTER TABLE agents ADD COLUMN last_source_ip TEXT;

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
