//! How long the hub waits for a body, how many connections it holds, and which of them makes room
//! for the next one.

use rustix::process::{Resource, getrlimit};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// How long a request's body may take, from the end of its head. hyper gives a head as long.
/// The largest body takes 35 kB/s then.
const BODY_TIME: Duration = Duration::from_secs(30);
/// The most connections at once, where the process may have enough descriptors.
const MOST_CONNECTIONS: usize = 16_384;
/// Descriptors for the database, the log, and the files of the dist folder: a quarter of all, and
/// at least so many.
const RESERVED: usize = 32;
/// How soon the hub looks again for a connection to close when each has a request under way.
const ALL_WORKING: Duration = Duration::from_millis(50);

/// What keeps slow and many clients from using the hub up. Tests alone choose other values.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a request's body may take. After that the answer is 408 and the connection is closed.
    pub body_time: Duration,
    /// The most connections at once, at least 1. For one more, the connection is closed whose
    /// client was silent longest.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current;
        Self {
            body_time: BODY_TIME,
            connections: connections(descriptors),
        }
    }
}

/// The most connections of a process that may have so many descriptors.
fn connections(descriptors: Option<u64>) -> usize {
    let all = descriptors.and_then(|all| usize::try_from(all).ok());
    let free = all.map_or(MOST_CONNECTIONS, |all| {
        all.saturating_sub(RESERVED.max(all / 4))
    });
    free.clamp(1, MOST_CONNECTIONS)
}

/// When a connection's client was last active, and whether a request of it is under way.
pub(crate) struct Activity {
    /// Counts what all connections do, so that two moments are never the same.
    turns: Arc<AtomicU64>,
    last: AtomicU64,
    /// Requests that arrived completely and are not answered yet.
    working: AtomicUsize,
}

impl Activity {
    fn new(turns: &Arc<AtomicU64>) -> Arc<Self> {
        let activity = Self {
            turns: Arc::clone(turns),
            last: AtomicU64::default(),
            working: AtomicUsize::default(),
        };
        activity.touch();
        Arc::new(activity)
    }

    /// Notes that a byte has come or gone.
    pub(crate) fn touch(&self) {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        self.last.store(turn, Ordering::Relaxed);
    }

    /// Notes that a request is under way, until the guard is dropped.
    pub(crate) fn work(self: &Arc<Self>) -> Working {
        self.working.fetch_add(1, Ordering::Relaxed);
        Working(Arc::clone(self))
    }
}

/// A request under way: its connection makes room for no other one.
pub(crate) struct Working(Arc<Activity>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.touch();
        self.0.working.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections that are open.
pub(crate) struct Connections {
    most: usize,
    turns: Arc<AtomicU64>,
    tasks: JoinSet<()>,
    open: Vec<(Arc<Activity>, AbortHandle)>,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            turns: Arc::default(),
            tasks: JoinSet::new(),
            open: Vec::new(),
        }
    }

    /// Returns once one more connection may be open. If need be, the one is closed whose client
    /// was silent longest, be it in a head, in a body, in taking an answer, or between two requests.
    pub(crate) async fn make_room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        while self.tasks.len() >= self.most {
            self.open.retain(|(_, task)| !task.is_finished());
            let silent = self
                .open
                .iter()
                .filter(|(activity, _)| activity.working.load(Ordering::Relaxed) == 0)
                .min_by_key(|(activity, _)| activity.last.load(Ordering::Relaxed));
            if let Some((_, task)) = silent {
                tracing::info!("{} connections: the most silent is closed", self.most);
                task.abort();
                self.tasks.join_next().await;
            } else {
                let _ = timeout(ALL_WORKING, self.tasks.join_next()).await;
            }
        }
    }

    /// Runs a connection, for which there is room.
    pub(crate) fn spawn<F>(&mut self, connection: impl FnOnce(Arc<Activity>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.open.len() > 2 * self.tasks.len() + RESERVED {
            self.open.retain(|(_, task)| !task.is_finished());
        }
        let activity = Activity::new(&self.turns);
        let task = self.tasks.spawn(connection(Arc::clone(&activity)));
        self.open.push((activity, task));
    }

    /// Waits for the end of one connection, or for ever if there is none.
    pub(crate) async fn one_ends(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Lets all connections end by themselves for so long, and then ends them.
    pub(crate) async fn end(mut self, patience: Duration) {
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(patience, all_ended).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

/// Waits before the next try to accept a connection. Out of descriptors, most likely: connections
/// must end before it gets better.
pub(crate) async fn pause() {
    sleep(ALL_WORKING).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_left_for_the_hubs_own_files() {
        for (descriptors, expected) in [
            (Some(0), 1),
            (Some(33), 1),
            (Some(128), 96),
            (Some(1_024), 768),
            (Some(1 << 20), MOST_CONNECTIONS),
            (Some(u64::MAX), MOST_CONNECTIONS),
            (None, MOST_CONNECTIONS),
        ] {
            assert_eq!(connections(descriptors), expected, "{descriptors:?}");
        }
    }

    /// Three connections that never end by themselves, in the order of their activity.
    fn full() -> (Connections, Vec<Arc<Activity>>) {
        let mut connections = Connections::new(3);
        let mut activities = Vec::new();
        for _ in 0..3 {
            connections.spawn(|activity| {
                activities.push(activity);
                std::future::pending()
            });
        }
        (connections, activities)
    }

    fn open(connections: &Connections, activities: &[Arc<Activity>]) -> Vec<bool> {
        let is_open = |activity| {
            let mut open = connections.open.iter();
            open.any(|(other, task)| Arc::ptr_eq(other, activity) && !task.is_finished())
        };
        activities.iter().map(is_open).collect()
    }

    #[tokio::test]
    async fn the_most_silent_makes_room() {
        let (mut connections, activities) = full();
        activities[0].touch();
        connections.make_room().await;
        assert_eq!(open(&connections, &activities), [true, false, true]);
        connections.make_room().await;
        assert_eq!(open(&connections, &activities), [true, false, true], "once");
    }

    #[tokio::test]
    async fn a_request_under_way_is_never_cut() {
        let (mut connections, activities) = full();
        let working = activities[0].work();
        connections.make_room().await;
        assert_eq!(open(&connections, &activities), [true, false, true]);
        drop(working);
        connections.spawn(|_| std::future::pending());
        connections.make_room().await;
        assert_eq!(open(&connections, &activities), [true, false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_work_the_next_one_waits() {
        let (mut connections, activities) = full();
        let working: Vec<_> = activities.iter().map(Activity::work).collect();
        let made = timeout(100 * ALL_WORKING, connections.make_room()).await;
        assert!(made.is_err());
        drop(working);
        connections.make_room().await;
        assert_eq!(open(&connections, &activities), [false, true, true]);
    }
}
