//! The time limit of a body, the limit of open connections, and the choice of the connection to
//! close for the next one.

use rustix::process::{Resource, getrlimit};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// The time for a request's body, from the end of its head. hyper gives a head as long.
/// The largest body needs 35 kB/s.
const BODY_TIME: Duration = Duration::from_secs(30);
/// The most connections at once, if the process may have enough descriptors.
const MAX_CONNECTIONS: usize = 16_384;
/// Descriptors for the database, the log, and the files of the dist folder: a quarter of all, and
/// at least so many.
const RESERVED: usize = 32;
/// The delay until the hub tries again to close a connection, if each has a request under way.
const ALL_ACTIVE: Duration = Duration::from_millis(50);

/// Limits against slow and many clients. Tests alone choose other values.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The time for a request's body. After it the answer is 408, and the connection is closed.
    pub body_time: Duration,
    /// The most connections at once, at least 1. For one more, the hub closes the connection whose
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

/// Returns the most connections of a process that may have so many descriptors.
fn connections(descriptors: Option<u64>) -> usize {
    let all = descriptors.and_then(|all| usize::try_from(all).ok());
    let free = all.map_or(MAX_CONNECTIONS, |all| {
        all.saturating_sub(RESERVED.max(all / 4))
    });
    free.clamp(1, MAX_CONNECTIONS)
}

/// The time of a client's last activity, and the number of its requests under way.
pub(crate) struct Activity {
    /// A counter that all connections share, so that no two moments are equal.
    sequence: Arc<AtomicU64>,
    last: AtomicU64,
    /// Requests that have arrived completely and are not answered yet.
    requests: AtomicUsize,
}

impl Activity {
    fn new(sequence: &Arc<AtomicU64>) -> Arc<Self> {
        let activity = Self {
            sequence: Arc::clone(sequence),
            last: AtomicU64::default(),
            requests: AtomicUsize::default(),
        };
        activity.touch();
        Arc::new(activity)
    }

    /// Records that bytes were read or written.
    pub(crate) fn touch(&self) {
        let moment = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.last.store(moment, Ordering::Relaxed);
    }

    /// Records that a request is under way, until the guard is dropped.
    pub(crate) fn begin_request(self: &Arc<Self>) -> ActiveRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(Arc::clone(self))
    }
}

/// A request under way, which keeps its connection from being closed for another one.
pub(crate) struct ActiveRequest(Arc<Activity>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.touch();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections that are open.
pub(crate) struct Connections {
    limit: usize,
    sequence: Arc<AtomicU64>,
    tasks: JoinSet<()>,
    open: Vec<(Arc<Activity>, AbortHandle)>,
}

impl Connections {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            sequence: Arc::default(),
            tasks: JoinSet::new(),
            open: Vec::new(),
        }
    }

    /// Waits until one more connection may be open. If need be, the one is closed whose client
    /// was silent longest, be it in a head, in a body, in taking an answer, or between two requests.
    pub(crate) async fn make_room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        while self.tasks.len() >= self.limit {
            self.open.retain(|(_, task)| !task.is_finished());
            let silent = self
                .open
                .iter()
                .filter(|(activity, _)| activity.requests.load(Ordering::Relaxed) == 0)
                .min_by_key(|(activity, _)| activity.last.load(Ordering::Relaxed));
            if let Some((_, task)) = silent {
                tracing::info!("{} connections: the most silent is closed", self.limit);
                task.abort();
                self.tasks.join_next().await;
            } else {
                let _ = timeout(ALL_ACTIVE, self.tasks.join_next()).await;
            }
        }
    }

    /// Runs a connection. Call [`Self::make_room`] first.
    pub(crate) fn spawn<F>(&mut self, connection: impl FnOnce(Arc<Activity>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.open.len() > 2 * self.tasks.len() + RESERVED {
            self.open.retain(|(_, task)| !task.is_finished());
        }
        let activity = Activity::new(&self.sequence);
        let task = self.tasks.spawn(connection(Arc::clone(&activity)));
        self.open.push((activity, task));
    }

    /// Waits for the end of one connection, or forever if none is open.
    pub(crate) async fn next_end(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits this long for all connections to end by themselves, and then ends them.
    pub(crate) async fn end(mut self, time: Duration) {
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(time, all_ended).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

/// Waits before the next attempt to accept a connection. Most likely no descriptor is left, and
/// connections must end first.
pub(crate) async fn pause() {
    sleep(ALL_ACTIVE).await;
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
            (Some(1 << 20), MAX_CONNECTIONS),
            (Some(u64::MAX), MAX_CONNECTIONS),
            (None, MAX_CONNECTIONS),
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
        let active = activities[0].begin_request();
        connections.make_room().await;
        assert_eq!(open(&connections, &activities), [true, false, true]);
        drop(active);
        connections.spawn(|_| std::future::pending());
        connections.make_room().await;
        assert_eq!(open(&connections, &activities), [true, false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_active_the_next_one_waits() {
        let (mut connections, activities) = full();
        let active: Vec<_> = activities.iter().map(Activity::begin_request).collect();
        let made = timeout(100 * ALL_ACTIVE, connections.make_room()).await;
        assert!(made.is_err());
        drop(active);
        connections.make_room().await;
        assert_eq!(open(&connections, &activities), [false, true, true]);
    }
}
