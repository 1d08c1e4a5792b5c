//! Commits in groups. A commit waits for the disk, so the requests that have come while the one
//! before did are committed together: one transaction, and in it a savepoint for each of them.

use rusqlite::{Connection, Savepoint, Transaction, TransactionBehavior};
use std::iter;
use std::sync::mpsc;

/// The most requests that are committed together, so that the first need not wait for ever.
const GROUP: usize = 256;

/// One request's work. It returns what tells the waiting handler, to be called after the commit.
pub(super) type Job = Box<dyn FnOnce(&Savepoint<'_>) -> rusqlite::Result<Announce> + Send>;
type Announce = Box<dyn FnOnce() + Send>;

/// The thread: group after group until no handler is left.
pub(super) fn work(mut connection: Connection, queue: &mpsc::Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let mut group = iter::once(first).chain(queue.try_iter()).take(GROUP);
        // A group may end early, by a failure that takes the whole transaction with it.
        while let Some(first) = group.next() {
            if let Err(cause) = run(&mut connection, iter::once(first).chain(&mut group)) {
                tracing::error!(%cause, "database");
            }
        }
    }
}

/// Runs jobs in one transaction, and tells their handlers once it is committed. If it cannot be,
/// none of its handlers is told anything but that the hub failed.
fn run(connection: &mut Connection, jobs: impl Iterator<Item = Job>) -> rusqlite::Result<()> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut announcements = Vec::new();
    for job in jobs {
        match run_one(&mut transaction, job) {
            Ok(announce) => announcements.push(announce),
            // SQLite rolls everything back by itself when, say, the disk is full.
            Err(cause) if transaction.is_autocommit() => return Err(cause),
            Err(cause) => tracing::error!(%cause, "database"),
        }
    }
    transaction.commit()?;
    for announce in announcements {
        announce();
    }
    Ok(())
}

/// Runs one job in a savepoint. If it fails, what it did is undone, and nothing else.
fn run_one(transaction: &mut Transaction<'_>, job: Job) -> rusqlite::Result<Announce> {
    let savepoint = transaction.savepoint()?;
    // Dropped without a commit, a savepoint is rolled back.
    let announce = job(&savepoint)?;
    savepoint.commit()?;
    Ok(announce)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{Database, Stop};
    use crate::refusal::Refusal;
    use tempfile::TempDir;

    type Work = rusqlite::Result<()>;

    /// A database in a file, and the way to it by which others see what is committed.
    struct Scene {
        database: Database,
        other: Connection,
        dir: TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("hub.db");
            let (database, _) = Database::open(Some(&file)).unwrap();
            let other = Connection::open(&file).unwrap();
            Self {
                database,
                other,
                dir,
            }
        }

        /// Names of the agents that are committed.
        fn committed(&self) -> Vec<String> {
            names(&self.other)
        }

        /// Holds the thread up until all futures beside this one have been polled once.
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
    async fn who_waits_together_is_committed_together() {
        let scene = Scene::new();
        let file = scene.dir.path().join("hub.db");
        let (hold, release) = scene.hold();
        let (_, first, seen, _) = tokio::join!(
            hold,
            scene.database.transact(|savepoint| insert(savepoint, "a")),
            scene.database.transact(move |savepoint| {
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
        assert_eq!(scene.committed(), ["a", "b"], "and all is, once answered");
    }

    #[tokio::test]
    async fn one_that_fails_takes_none_with_it() {
        let scene = Scene::new();
        let (hold, release) = scene.hold();
        let (_, first, failed, refused, last, _) = tokio::join!(
            hold,
            scene.database.transact(|savepoint| insert(savepoint, "a")),
            scene.database.transact(|savepoint| {
                insert(savepoint, "b")?;
                savepoint.execute("no SQL", []).map(|_| ())
            }),
            scene.database.transact(|savepoint| -> Result<(), Stop> {
                insert(savepoint, "c")?;
                Err(Refusal::replayed().into())
            }),
            scene.database.transact(|savepoint| insert(savepoint, "d")),
            release,
        );
        first.unwrap();
        assert_eq!(code(failed), "internal");
        assert_eq!(code(refused), "replayed");
        last.unwrap();
        assert_eq!(scene.committed(), ["a", "c", "d"], "a refusal's notes stay");
    }

    #[tokio::test]
    async fn who_is_rolled_back_with_another_is_told() {
        let scene = Scene::new();
        let (hold, release) = scene.hold();
        let (_, first, fatal, last, _) = tokio::join!(
            hold,
            scene.database.transact(|savepoint| insert(savepoint, "a")),
            // A conflict that SQLite answers by rolling back the transaction, as when it is full.
            scene.database.transact(|savepoint| insert(savepoint, "a")),
            scene.database.transact(|savepoint| insert(savepoint, "d")),
            release,
        );
        assert_eq!(code(first), "internal");
        assert_eq!(code(fatal), "internal");
        last.unwrap();
        assert_eq!(scene.committed(), ["d"]);
    }

    fn code(refused: Result<(), Refusal>) -> &'static str {
        refused.unwrap_err().code()
    }
}
