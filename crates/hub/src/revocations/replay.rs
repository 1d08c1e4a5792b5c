//! Brings database and file of revocations to the same state, before the hub listens.

use super::entry::Entry;
use super::raise_floor;
use crate::clock::Millis;
use crate::receipt::TENANT;
use rusqlite::{Savepoint, named_params, params};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Applies the entries of the file to the database. Returns the revocations that the database has
/// and the file lacks, as when the file was lost: they are to be appended.
pub(crate) fn apply(
    savepoint: &Savepoint<'_>,
    entries: &[(Entry, Millis)],
) -> rusqlite::Result<Vec<Entry>> {
    let last = LastEntries::of(entries);
    for (agent_id, deleted) in &last.agents {
        match deleted {
            Some(deleted) => {
                delete(savepoint, *agent_id, deleted.key.as_deref(), deleted.at)?;
            }
            None => allow(savepoint, *agent_id)?,
        }
    }
    for (agent_id, floor) in &last.floors {
        let key = floor.key.as_deref();
        raise_floor(savepoint, *agent_id, floor.before, key, floor.is_unenrolled)?;
        drop_replaced(savepoint, *agent_id, floor)?;
    }
    for (token_id, at) in &last.tokens {
        savepoint
            .prepare_cached(
                "UPDATE enrolment_tokens SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1",
            )?
            .execute(params![token_id.to_string(), at])?;
    }
    last.missing(savepoint)
}

/// Deletes an agent until it is allowed again.
pub(crate) fn delete(
    savepoint: &Savepoint<'_>,
    agent_id: Uuid,
    key: Option<&str>,
    at: Millis,
) -> rusqlite::Result<()> {
    savepoint
        .prepare_cached(
            "INSERT INTO deleted_agents (agent_id, tenant, key_sha256, deleted_at)
             VALUES (:id, :tenant, :key, :at)
                 ON CONFLICT (agent_id) DO UPDATE SET key_sha256 = coalesce(excluded.key_sha256, key_sha256)",
        )?
        .execute(named_params! {
            ":id": agent_id.to_string(),
            ":tenant": TENANT,
            ":key": key,
            ":at": at,
        })?;
    savepoint
        .prepare_cached("DELETE FROM agents WHERE id = ?1")?
        .execute([agent_id.to_string()])?;
    Ok(())
}

fn allow(savepoint: &Savepoint<'_>, agent_id: Uuid) -> rusqlite::Result<()> {
    savepoint
        .prepare_cached("DELETE FROM deleted_agents WHERE agent_id = ?1")?
        .execute([agent_id.to_string()])?;
    Ok(())
}

/// Removes what an older copy of the database still has: the row of an agent that has unenrolled,
/// or a key that was pinned before the moment at which an operator has unpinned it.
fn drop_replaced(savepoint: &Savepoint<'_>, agent_id: Uuid, floor: &Floor) -> rusqlite::Result<()> {
    if floor.is_unenrolled {
        savepoint
            .prepare_cached("DELETE FROM agents WHERE id = ?1")?
            .execute([agent_id.to_string()])?;
    }
    savepoint
        .prepare_cached(
            "UPDATE agents SET signing_pubkey = NULL, key_pinned_at = NULL
              WHERE id = ?1 AND coalesce(key_pinned_at, 0) < ?2",
        )?
        .execute(params![agent_id.to_string(), floor.before])?;
    Ok(())
}

struct Deleted {
    key: Option<String>,
    at: Millis,
}

#[derive(Default)]
struct Floor {
    before: Millis,
    key: Option<String>,
    is_unenrolled: bool,
}

/// The last state of each agent and token in the file.
#[derive(Default)]
struct LastEntries {
    /// `None` for one that was allowed again.
    agents: BTreeMap<Uuid, Option<Deleted>>,
    floors: BTreeMap<Uuid, Floor>,
    tokens: BTreeMap<Uuid, Millis>,
}

impl LastEntries {
    fn of(entries: &[(Entry, Millis)]) -> Self {
        let mut last = Self::default();
        for (entry, at) in entries {
            last.add(entry.clone(), *at);
        }
        last
    }

    fn add(&mut self, entry: Entry, at: Millis) {
        match entry {
            Entry::Begin { .. } | Entry::LostAccepted => {}
            Entry::AgentDeleted { agent_id, key } => {
                self.agents.insert(agent_id, Some(Deleted { key, at }));
            }
            Entry::AgentAllowed { agent_id } => {
                self.agents.insert(agent_id, None);
            }
            Entry::AgentUnenrolled { agent_id, before } => {
                self.raise(agent_id, before, None).is_unenrolled = true;
            }
            Entry::KeyUnpinned {
                agent_id,
                key,
                before,
            } => {
                self.raise(agent_id, before, key);
            }
            Entry::TokenRevoked { token_id } => {
                self.tokens.entry(token_id).or_insert(at);
            }
        }
    }

    fn raise(&mut self, agent_id: Uuid, before: Millis, key: Option<String>) -> &mut Floor {
        let floor = self.floors.entry(agent_id).or_default();
        floor.before = floor.before.max(before);
        floor.key = key.or(floor.key.take());
        floor
    }

    /// Returns the revocations of the database that are not in the file.
    fn missing(&self, savepoint: &Savepoint<'_>) -> rusqlite::Result<Vec<Entry>> {
        let mut missing = Vec::new();
        let id = |text: String| text.parse::<Uuid>().unwrap_or_default();
        let mut deleted = savepoint
            .prepare_cached("SELECT agent_id, key_sha256 FROM deleted_agents ORDER BY rowid")?;
        for row in deleted.query_map([], |row| Ok((id(row.get(0)?), row.get(1)?)))? {
            let (agent_id, key) = row?;
            if !self.agents.contains_key(&agent_id) {
                missing.push(Entry::AgentDeleted { agent_id, key });
            }
        }
        let mut floors = savepoint.prepare_cached(
            "SELECT agent_id, refused_before, key_sha256, is_unenrolled FROM receipt_floors
              ORDER BY rowid",
        )?;
        let floors = floors.query_map([], |row| {
            let floor = Floor {
                before: row.get(1)?,
                key: row.get(2)?,
                is_unenrolled: row.get(3)?,
            };
            Ok((id(row.get(0)?), floor))
        })?;
        for row in floors {
            let (agent_id, floor) = row?;
            let known = self.floors.get(&agent_id);
            if known.is_some_and(|known| {
                known.before >= floor.before && known.is_unenrolled >= floor.is_unenrolled
            }) {
                continue;
            }
            let Floor { before, key, .. } = floor;
            missing.push(if floor.is_unenrolled {
                Entry::AgentUnenrolled { agent_id, before }
            } else {
                Entry::KeyUnpinned {
                    agent_id,
                    key,
                    before,
                }
            });
        }
        let mut tokens = savepoint.prepare_cached(
            "SELECT id FROM enrolment_tokens WHERE revoked_at IS NOT NULL ORDER BY rowid",
        )?;
        for row in tokens.query_map([], |row| Ok(id(row.get(0)?)))? {
            let token_id = row?;
            if !self.tokens.contains_key(&token_id) {
                missing.push(Entry::TokenRevoked { token_id });
            }
        }
        Ok(missing)
    }
}
