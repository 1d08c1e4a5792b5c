//! The faults to come.

use super::point::{FaultPoint, HUB};
use super::request::Fault;
use axum::http::Method;
use std::sync::{Mutex, PoisonError};

/// The faults to come, and the calls that they can happen to.
pub(crate) struct Faults {
    points: Vec<FaultPoint>,
    /// Oldest first.
    pending: Mutex<Vec<Fault>>,
}

impl Faults {
    /// Makes an empty list. `points` are those beside the hub's own.
    pub(crate) fn new<'a>(points: impl Iterator<Item = &'a FaultPoint>) -> Self {
        Self {
            points: HUB.iter().chain(points).cloned().collect(),
            pending: Mutex::default(),
        }
    }

    /// Checks that faults can happen to this route. The error is a message for the client.
    pub(super) fn check_route(&self, route: &str) -> Result<(), String> {
        let mut names = self.points.iter().map(|point| point.name);
        if names.any(|name| name == route) {
            return Ok(());
        }
        let names: Vec<&str> = self.points.iter().map(|point| point.name).collect();
        Err(format!("route: must be one of {}", names.join(", ")))
    }

    /// Returns the name of the call that this request is, if faults can happen to it.
    pub(super) fn route_of(&self, method: &Method, route: &str) -> Option<&'static str> {
        let mut points = self.points.iter();
        let point = points.find(|point| point.is_call(method, route));
        point.map(|point| point.name)
    }

    /// Uses one time of the oldest fault for this route and path, if its chance hits.
    pub(super) fn take(&self, route: &str, path: &str) -> Option<Fault> {
        self.with(|faults| {
            let at = faults
                .iter()
                .position(|fault| fault.request.is_for(route, path))?;
            if faults[at]
                .chance
                .as_mut()
                .is_some_and(|chance| !chance.draw())
            {
                return None;
            }
            faults[at].request.times -= 1;
            if faults[at].request.times == 0 {
                Some(faults.remove(at))
            } else {
                Some(faults[at].clone())
            }
        })
    }

    /// Waits within a call for the delay of the next fault of this point.
    pub(crate) async fn pause(&self, point: &str) {
        if let Some(delay) = self.take(point, "").and_then(|fault| fault.delay) {
            tokio::time::sleep(delay).await;
        }
    }

    /// Runs `change` on the list.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Vec<Fault>) -> T) -> T {
        // A panic elsewhere cannot leave the list half changed.
        change(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
