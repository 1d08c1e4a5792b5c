//! Revocations: what must stay true although the database is lost or replaced by an older copy.
//!
//! They are in the database, where requests find them, and in a file of their own, if the operator
//! gives one. The file is written first: a crash between the two leaves a revocation that the next
//! start applies to the database.

mod entry;
mod file;
mod replay;

use crate::clock::Millis;
use crate::receipt::TENANT;
pub(crate) use entry::Entry;
pub(crate) use file::{Completeness, RevocationFile};
pub(crate) use replay::{apply, delete as delete_agent};
use rusqlite::{OptionalExtension as _, Savepoint, named_params, params};
use std::path::Path;
use uuid::Uuid;

/// Returns whether the file holds anything that a receipt key must have signed.
pub(crate) fn has_entries(file: Option<&Path>) -> bool {
    file.and_then(|file| std::fs::metadata(file).ok())
        .is_some_and(|metadata| metadata.len() > 0)
}

/// Appends entries to the file, if there is one. They are on disk once this returns. Called within a
/// transaction, as its last step: a failure rolls the transaction back.
pub(crate) fn record(
    file: Option<&RevocationFile>,
    entries: &[Entry],
    now: Millis,
) -> rusqlite::Result<()> {
    let Some(file) = file else {
        return Ok(());
    };
    file.append(entries, now)
        .map_err(|cause| rusqlite::Error::ToSqlConversionFailure(Box::new(cause)))
}

/// Returns the moment before which all receipts of an agent were made, and the hash of its key: its
/// present one, or the last one that was unpinned. Returns `None` if there is no such agent.
pub(crate) fn last_receipt(
    savepoint: &Savepoint<'_>,
    agent_id: Uuid,
    now: Millis,
) -> rusqlite::Result<Option<(Millis, Option<String>)>> {
    savepoint
        .prepare_cached(
            "SELECT max(:now, coalesce(a.receipt_at + 1, 0), coalesce(f.refused_before, 0)),
                    a.signing_pubkey, f.key_sha256
               FROM agents a LEFT JOIN receipt_floors f ON f.agent_id = a.id WHERE a.id = :id",
        )?
        .query_row(
            named_params! {":id": agent_id.to_string(), ":now": now},
            |row| {
                let pinned: Option<Vec<u8>> = row.get(1)?;
                let unpinned: Option<String> = row.get(2)?;
                Ok((row.get(0)?, pinned.as_deref().map(hash).or(unpinned)))
            },
        )
        .optional()
}

fn hash(key: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&crate::secret::sha256(key))
}

/// Refuses all receipts of an agent that were made before a moment.
pub(crate) fn raise_floor(
    savepoint: &Savepoint<'_>,
    agent_id: Uuid,
    before: Millis,
    key: Option<&str>,
    is_unenrolled: bool,
) -> rusqlite::Result<()> {
    savepoint
        .prepare_cached(
            "INSERT INTO receipt_floors (agent_id, tenant, refused_before, key_sha256, is_unenrolled)
             VALUES (:id, :tenant, :before, :key, :unenrolled)
                 ON CONFLICT (agent_id) DO UPDATE
                SET refused_before = max(refused_before, excluded.refused_before),
                    key_sha256 = coalesce(excluded.key_sha256, key_sha256),
                    is_unenrolled = max(is_unenrolled, excluded.is_unenrolled)",
        )?
        .execute(named_params! {
            ":id": agent_id.to_string(),
            ":tenant": TENANT,
            ":before": before,
            ":key": key,
            ":unenrolled": is_unenrolled,
        })?;
    Ok(())
}

/// Returns whether receipts of this agent that were made at that moment are refused.
pub(crate) fn is_below_floor(
    savepoint: &Savepoint<'_>,
    agent_id: Uuid,
    issued_at: Millis,
) -> rusqlite::Result<bool> {
    savepoint
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM receipt_floors WHERE agent_id = ?1
                               AND (refused_before > ?2 OR is_unenrolled))",
        )?
        .query_row(params![agent_id.to_string(), issued_at], |row| row.get(0))
}
