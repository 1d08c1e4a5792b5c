//! Faults on request: replies that are late, refused, cut, mangled, or lost after the commit.
//!
//! `wire` is how a fault is asked for, and what of that makes sense; `strike` is how one
//! happens to a call. This file keeps those that are still to come.

mod strike;
mod wire;

pub(crate) use strike::{FaultPoint, Sever, strike};

use crate::App;
use crate::refusal::Refusal;
use crate::request::{Admin, JsonBody};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire::FaultBody;

const MAX_LIVE: usize = 1_000;

/// What a host calls, to which faults happen.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Route {
    Enrol,
    Register,
    Heartbeat,
    Delete,
    Install,
    Dist,
    #[serde(rename = "ravenxcope-enroll")]
    RavenxcopeEnroll,
    #[serde(rename = "ravenxcope-heartbeat")]
    RavenxcopeHeartbeat,
    #[serde(rename = "mimir-enroll")]
    MimirEnroll,
    /// Between the check of a secret and the claim of a slot: delays alone happen there.
    #[serde(rename = "mimir-claim")]
    MimirClaim,
    #[serde(rename = "mimir-self")]
    MimirSelf,
    #[serde(rename = "mimir-renew")]
    MimirRenew,
    #[serde(rename = "lyftdata-enroll")]
    LyftdataEnroll,
}

/// Something that is to go wrong.
#[derive(Clone)]
pub(crate) struct Fault {
    asked: FaultBody,
    delay: Option<Duration>,
    effect: Effect,
    chance: Option<Chance>,
}

/// Of the requests of its route, a fault happens to so many in a hundred. Which ones is a matter
/// of the seed and of their order.
#[derive(Clone)]
struct Chance {
    percent: u8,
    random: fastrand::Rng,
}

impl Chance {
    fn new(percent: u8, seed: u32) -> Self {
        Self {
            percent,
            random: fastrand::Rng::with_seed(seed.into()),
        }
    }

    fn strikes(&mut self) -> bool {
        self.random.u8(..100) < self.percent
    }
}

#[derive(Clone)]
enum Effect {
    Reset(Reset),
    /// A reply comes: the hub's own or another one, changed or not.
    Reply(Option<Instead>, Changes),
}

/// When a connection is reset: before the hub does anything, or after it has committed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Reset {
    Before,
    After,
}

/// What answers in the hub's place.
#[derive(Clone)]
struct Instead {
    status: StatusCode,
    retry_after: Option<HeaderValue>,
    location: Option<HeaderValue>,
}

/// What is changed of a reply.
#[derive(Clone)]
struct Changes {
    body: Option<Vec<u8>>,
    body_bytes: Option<usize>,
    content_type: Option<HeaderValue>,
    truncate_at: Option<usize>,
}

/// The faults that are still to happen, oldest first.
#[derive(Default)]
pub(crate) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    /// Uses up one time of the oldest fault of this route and path, if chance wills.
    fn take(&self, route: Route, path: &str) -> Option<Fault> {
        self.with(|faults| {
            let at = faults
                .iter()
                .position(|fault| fault.asked.is_of(route, path))?;
            if faults[at]
                .chance
                .as_mut()
                .is_some_and(|chance| !chance.strikes())
            {
                return None;
            }
            faults[at].asked.times -= 1;
            if faults[at].asked.times == 0 {
                Some(faults.remove(at))
            } else {
                Some(faults[at].clone())
            }
        })
    }

    /// Waits, in the middle of a call, as long as the next fault of this point says.
    pub(crate) async fn pause(&self, route: Route) {
        if let Some(delay) = self.take(route, "").and_then(|fault| fault.delay) {
            tokio::time::sleep(delay).await;
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Vec<Fault>) -> T) -> T {
        // A panic elsewhere cannot leave the list half changed.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The live faults on the wire.
#[derive(Serialize)]
pub(crate) struct Live {
    faults: Vec<Value>,
}

impl Live {
    fn of(faults: &[Fault]) -> Json<Self> {
        let faults = faults.iter().map(|fault| fault.asked.shown()).collect();
        Json(Self { faults })
    }
}

/// `GET /api/v1/faults`
pub(crate) async fn list(_: Admin, State(app): State<Arc<App>>) -> Json<Live> {
    app.faults.with(|faults| Live::of(faults))
}

/// `POST /api/v1/faults`: adds a fault behind those of its route, or with `"times": 0`
/// takes all of that route away. Answers what is live now.
pub(crate) async fn add(
    _: Admin,
    State(app): State<Arc<App>>,
    body: JsonBody<FaultBody>,
) -> Result<(StatusCode, Json<Live>), Refusal> {
    let fault = body.value;
    app.faults.with(|faults| {
        let status = if fault.asked.times == 0 {
            faults.retain(|live| live.asked.route != fault.asked.route);
            StatusCode::OK
        } else if faults.len() < MAX_LIVE {
            faults.push(fault);
            StatusCode::CREATED
        } else {
            return Err(Refusal::invalid(format!(
                "there are {MAX_LIVE} live faults: clear some first"
            )));
        };
        Ok((status, Live::of(faults)))
    })
}

/// `DELETE /api/v1/faults`
pub(crate) async fn clear(_: Admin, State(app): State<Arc<App>>) -> StatusCode {
    app.faults.with(Vec::clear);
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_is_what_it_says_and_its_seed_repeats_it() {
        let struck = |percent, seed| -> Vec<bool> {
            let mut chance = Chance::new(percent, seed);
            (0..10_000).map(|_| chance.strikes()).collect()
        };
        let count = |struck: Vec<bool>| struck.into_iter().filter(|struck| *struck).count();
        assert!((400..600).contains(&count(struck(5, 1))));
        assert_eq!(count(struck(100, 1)), 10_000);
        assert_eq!(struck(5, 1), struck(5, 1));
        assert_ne!(struck(5, 1), struck(5, 2));
    }
}
