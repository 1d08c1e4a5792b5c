//! SQLite on a thread of its own. The work of a request is all or nothing, and its result is
//! returned once it is committed: on disk.

mod file;
mod group;

use crate::cidr::Cidr;
use crate::clock::rfc3339;
use crate::error::Error;
use crate::refusal::Refusal;
use group::Job;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::{Connection, Savepoint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

const SCHEMA: &str = include_str!("database/schema.sql");
const SCHEMA_VERSION: i64 = 3;
const FROM_2_TO_3: &str = include_str!("database/from_2_to_3.sql");

/// A handle to the database's thread. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub struct Database {
    jobs: mpsc::Sender<Job>,
}

impl Database {
    /// Opens the file, or a database in memory, and starts its thread. `tables` is SQL of tables
    /// beside the hub's own, which creates those that do not exist.
    pub(crate) fn open(
        path: Option<&Path>,
        tables: &[&str],
    ) -> Result<(Self, JoinHandle<()>), Error> {
        let (connection, lock) = match path {
            Some(path) => {
                let (connection, lock) = file::open(path)?;
                prepare(&connection, tables)
                    .map_err(|cause| file::failed(&path.display().to_string(), &cause))?;
                (connection, Some(lock))
            }
            None => Connection::open_in_memory()
                .and_then(|connection| prepare(&connection, tables).map(|()| connection))
                .map(|connection| (connection, None))
                .map_err(|cause| file::failed("in memory", &cause))?,
        };
        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("database".to_owned())
            .spawn(move || {
                group::work(connection, &queue);
                // The connection is closed by now, and another hub may open the file.
                drop(lock);
            })
            .map_err(|cause| {
                Error::new(
                    "starting the database's thread",
                    cause,
                    "free memory, or raise the limit of processes (ulimit -u)",
                )
            })?;
        Ok((Self { jobs }, thread))
    }

    /// Runs `work` in a transaction, and returns its result once that is committed.
    pub async fn transact<T, E, F>(&self, work: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        E: Into<TransactionError>,
        F: FnOnce(&Savepoint<'_>) -> Result<T, E> + Send + 'static,
    {
        let (answer, committed) = oneshot::channel();
        let job: Job = Box::new(move |savepoint| {
            let outcome = match work(savepoint).map_err(Into::into) {
                Ok(value) => Ok(value),
                Err(TransactionError::Refused(refusal)) => Err(refusal),
                Err(TransactionError::Failed(cause)) => return Err(cause),
            };
            Ok(Box::new(move || {
                // A handler that is gone (its host hung up) no longer needs the answer.
                let _ = answer.send(outcome);
            }))
        });
        // Either end fails only if the job did, which the thread has logged.
        self.jobs.send(job).map_err(|_| Refusal::internal())?;
        committed.await.map_err(|_| Refusal::internal())?
    }

    /// Queues work for which nobody waits, before that of every later request. The thread logs a
    /// failure.
    pub(crate) fn queue<F>(&self, work: F)
    where
        F: FnOnce(&Savepoint<'_>) -> rusqlite::Result<()> + Send + 'static,
    {
        let job: Job = Box::new(move |savepoint| {
            work(savepoint)?;
            Ok(Box::new(|| {}))
        });
        // The thread ends early only by a panic; then each request is refused, and says so.
        let _ = self.jobs.send(job);
    }
}

/// The reason why the work of a request ended early.
pub enum TransactionError {
    /// The hub refuses the request. What the work has written is committed.
    Refused(Refusal),
    /// The database failed. What the work has written is rolled back.
    Failed(rusqlite::Error),
}

impl From<Refusal> for TransactionError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<rusqlite::Error> for TransactionError {
    fn from(cause: rusqlite::Error) -> Self {
        Self::Failed(cause)
    }
}

/// Prepares a connection, and creates the tables that do not exist.
fn prepare(connection: &Connection, tables: &[&str]) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch("PRAGMA synchronous = FULL;")?;
    connection.set_prepared_statement_cache_capacity(64);
    let deterministic = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("ip_in_cidrs", 2, deterministic, ip_in_cidrs)?;

    connection.create_scalar_function("rfc3339", 1, deterministic, |context| {
        Ok(rfc3339(context.get(0)?))
    })?;

    let all_or_nothing =
        |sql: &str| connection.execute_batch(&format!("BEGIN IMMEDIATE; {sql} COMMIT;"));
    match connection.query_row("PRAGMA user_version", [], |row| row.get(0))? {
        0 => all_or_nothing(SCHEMA)?,
        2 => {
            // Off, since replacing a table would else delete the rows that refer to it.
            connection.execute_batch("PRAGMA foreign_keys = OFF;")?;
            all_or_nothing(FROM_2_TO_3)?;
        }
        SCHEMA_VERSION => {}
        other => {
            return Err(rusqlite::Error::ToSqlConversionFailure(
                format!("it was written by another version (schema {other})").into(),
            ));
        }
    }
    connection.execute_batch("PRAGMA foreign_keys = ON;")?;
    tables
        .iter()
        .try_for_each(|sql| connection.execute_batch(sql))
}

/// Implements the SQL function `ip_in_cidrs(ip, cidrs)`: whether the address lies in one of the
/// ranges of a JSON list. An empty list allows every address.
fn ip_in_cidrs(context: &Context<'_>) -> rusqlite::Result<bool> {
    let user_error =
        |cause: Box<dyn std::error::Error + Send + Sync>| rusqlite::Error::UserFunctionError(cause);
    let ip: String = context.get(0)?;
    let ip: IpAddr = ip.parse().map_err(|cause| user_error(Box::new(cause)))?;
    let cidrs: String = context.get(1)?;
    let cidrs: Vec<String> =
        serde_json::from_str(&cidrs).map_err(|cause| user_error(Box::new(cause)))?;
    if cidrs.is_empty() {
        return Ok(true);
    }
    for cidr in cidrs {
        let cidr: Cidr = cidr.parse().map_err(|cause| user_error(Box::new(cause)))?;
        if cidr.contains(ip) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns a value as the JSON text of a column.
pub fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|cause| rusqlite::Error::ToSqlConversionFailure(Box::new(cause)))
}

/// Parses the JSON text of the named column.
pub fn from_json<T: DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    column: &str,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|cause| {
        let index = row.as_ref().column_index(column).unwrap_or_default();
        rusqlite::Error::FromSqlConversionFailure(
            index,
            rusqlite::types::Type::Text,
            Box::new(cause),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns each column of each table, in no order, and the indices.
    fn shape(connection: &Connection) -> Vec<String> {
        let mut columns = connection
            .prepare(
                "SELECT t.name || '.' || c.name || ' ' || c.type || c.\"notnull\" || c.pk
                        || coalesce(c.dflt_value, '')
                   FROM sqlite_schema t JOIN pragma_table_info(t.name) c WHERE t.type = 'table'
                  UNION ALL
                 SELECT t.name || ' -> ' || f.\"table\" || ' ' || f.on_delete
                   FROM sqlite_schema t JOIN pragma_foreign_key_list(t.name) f
                  UNION ALL
                 SELECT coalesce(sql, tbl_name) FROM sqlite_schema WHERE type = 'index'
                  ORDER BY 1",
            )
            .unwrap();
        let columns = columns.query_map([], |row| row.get(0)).unwrap();
        columns.map(Result::unwrap).collect()
    }

    #[test]
    fn a_file_of_schema_2_becomes_one_of_schema_3() {
        let old = Connection::open_in_memory().unwrap();
        old.execute_batch(include_str!("database/schema_2.sql"))
            .unwrap();
        old.execute_batch(
            "INSERT INTO enrolment_tokens
                VALUES ('t', 'name', x'00', 1, 1, '[]', NULL, '[]', 1, 2, NULL);
             INSERT INTO agents (id, token_sha256, signing_pubkey, admitted_by, default_tags, tags,
                                 created_at)
                VALUES ('a', x'01', x'02', 't', '[]', '[]', 5),
                       ('b', x'03', NULL, NULL, '[]', '[]', 6);
             INSERT INTO heartbeats VALUES ('a', x'04', 7);",
        )
        .unwrap();
        prepare(&old, &[]).unwrap();
        let new = Connection::open_in_memory().unwrap();
        prepare(&new, &[]).unwrap();
        assert_eq!(shape(&old), shape(&new));

        let one = |sql| {
            old.query_row(sql, [], |row| row.get::<_, String>(0))
                .unwrap()
        };
        assert_eq!(
            one(
                "SELECT group_concat(concat_ws(' ', id, tenant, admitted_by, key_pinned_at))
                   FROM agents"
            ),
            "a default t 5,b default"
        );
        assert_eq!(one("SELECT agent_id FROM heartbeats"), "a");
        old.execute("DELETE FROM agents", []).unwrap();
        assert_eq!(
            old.query_row("SELECT count(*) FROM heartbeats", [], |row| row.get(0)),
            Ok(0),
            "foreign keys are on"
        );
    }
}
