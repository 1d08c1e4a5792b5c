//! Group commit. A commit waits for the disk, so the requests that arrive meanwhile are committed
//! together next: one transaction, and in it a savepoint for each request.

use rusqlite::{Connection, Savepoint, Transaction, TransactionBehavior};
use std::iter;
use std::sync::mpsc;

/// The most requests of a group, so that the first one does not wait forever.
const GROUP: usize = 256;

/// The work of one request. It returns the function that replies to the waiting handler, which is
/// called after the commit.
pub(super) type Job = Box<dyn FnOnce(&Savepoint<'_>) -> rusqlite::Result<Reply> + Send>;
type Reply = Box<dyn FnOnce() + Send>;

/// Runs the thread: group after group, until the last handle of the database is dropped.
pub(super) fn work(mut connection: Connection, queue: &mpsc::Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let mut group = iter::once(first).chain(queue.try_iter()).take(GROUP);
        // A failure that rolls back the transaction ends its group early.
        while let Some(first) = group.next() {
            if let Err(cause) = run(&mut connection, iter::once(first).chain(&mut group)) {
                tracing::error!(%cause, "database");
            }
        }
    }
}

/// Runs jobs in one transaction, and replies to their handlers once it is committed. If the commit
/// fails, each of them gets the refusal that the hub failed.
fn run(connection: &mut Connection, jobs: impl Iterator<Item = Job>) -> rusqlite::Result<()> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut replies = Vec::new();
    for job in jobs {
        match run_one(&mut transaction, job) {
            Ok(reply) => replies.push(reply),
            // SQLite rolls everything back by itself when, say, the disk is full.
            Err(cause) if transaction.is_autocommit() => return Err(cause),
            Err(cause) => tracing::error!(%cause, "database"),
        }
    }
    transaction.commit()?;
    for reply in replies {
        reply();
    }
    Ok(())
}

/// Runs one job in a savepoint. If the job fails, its own changes alone are rolled back.
fn run_one(transaction: &mut Transaction<'_>, job: Job) -> rusqlite::Result<Reply> {
    let savepoint = transaction.savepoint()?;
    // Dropped without a commit, a savepoint is rolled back.
    let reply = job(&savepoint)?;
    savepoint.commit()?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{Database, TransactionError};
    use crate::refusal::Refusal;
    use tempfile::TempDir;

    type Work = rusqlite::Result<()>;

    /// A database in a file, and a second connection, which sees only committed rows.
    struct Fixture {
        database: Database,
        other: Connection,
        dir: TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("hub.db");
            let (database, _) = Database::open(Some(&file), &[]).unwrap();
            let other = Connection::open(&file).unwrap();
            Self {
                database,
                other,
                dir,
            }
        }

        /// Returns the names of the committed agents.
        fn committed(&self) -> Vec<String> {
            names(&self.other)
        }

        /// Blocks the thread until all futures beside this one have been polled once.
        fn hold(&self) -> (impl Future<Output = Result<(), Refusal>>, impl Future) {
            let (release, released) = mpsc::channel();
            let waiting = self.database.transact(move |_| -> Work {
                released.recv().unwrap();
                Ok(())
            });
            (waiting, async move { release.send(()).unwrap() })
        }
    }

    fn names(connection: &Connection) -> Vec<String> {
        let mut names = connection
            .prepare("SELECT id FROM agents ORDER BY id")
            .unwrap();
        let names = names.query_map([], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    }

    fn insert(savepoint: &Savepoint<'_>, name: &str) -> Work {
        let sql =
            "INSERT OR ROLLBACK INTO agents (id, token_sha256, default_tags, tags, created_at)
                   VALUES (?1, CAST(?1 AS BLOB), '[]', '[]', 0)";
        savepoint.execute(sql, [name]).map(|_| ())
    }

    #[tokio::test]
    async fn waiting_jobs_are_committed_together() {
        let fixture = Fixture::new();
        let file = fixture.dir.path().join("hub.db");
        let (hold, release) = fixture.hold();
        let (_, first, seen, _) = tokio::join!(
            hold,
            fixture
                .database
                .transact(|savepoint| insert(savepoint, "a")),
            fixture.database.transact(move |savepoint| {
                insert(savepoint, "b")?;
                let others = names(&Connection::open(&file)?);
                Ok::<_, rusqlite::Error>((names(savepoint), others))
            }),
            release,
        );
        first.unwrap();
        let (within, others) = seen.unwrap();
        assert_eq!(within, ["a", "b"]);
        assert!(others.is_empty(), "nothing is committed yet: {others:?}");
        assert_eq!(fixture.committed(), ["a", "b"], "and all is, once answered");
    }

    #[tokio::test]
    async fn a_failed_job_rolls_back_no_other() {
        let fixture = Fixture::new();
        let (hold, release) = fixture.hold();
        let (_, first, failed, refused, last, _) = tokio::join!(
            hold,
            fixture
                .database
                .transact(|savepoint| insert(savepoint, "a")),
            fixture.database.transact(|savepoint| {
                insert(savepoint, "b")?;
                savepoint.execute("no SQL", []).map(|_| ())
            }),
            fixture
                .database
                .transact(|savepoint| -> Result<(), TransactionError> {
                    insert(savepoint, "c")?;
                    Err(Refusal::replayed().into())
                }),
            fixture
                .database
                .transact(|savepoint| insert(savepoint, "d")),
            release,
        );
        first.unwrap();
        assert_eq!(code(failed), "internal");
        assert_eq!(code(refused), "replayed");
        last.unwrap();
        assert_eq!(
            fixture.committed(),
            ["a", "c", "d"],
            "rows of a refused request stay"
        );
    }

    #[tokio::test]
    async fn jobs_of_a_rolled_back_transaction_fail() {
        let fixture = Fixture::new();
        let (hold, release) = fixture.hold();
        let (_, first, fatal, last, _) = tokio::join!(
            hold,
            fixture
                .database
                .transact(|savepoint| insert(savepoint, "a")),
            // A conflict that SQLite answers by rolling back the transaction, as when it is full.
            fixture
                .database
                .transact(|savepoint| insert(savepoint, "a")),
            fixture
                .database
                .transact(|savepoint| insert(savepoint, "d")),
            release,
        );
        assert_eq!(code(first), "internal");
        assert_eq!(code(fatal), "internal");
        last.unwrap();
        assert_eq!(fixture.committed(), ["d"]);
    }

    fn code(refused: Result<(), Refusal>) -> &'static str {
        refused.unwrap_err().code()
    }
}
