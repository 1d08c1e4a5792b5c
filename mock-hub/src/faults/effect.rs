//! The effect of a fault on a call.

use axum::http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

/// The chance of a fault in per cent. Seed and order of the requests decide which ones it hits.
#[derive(Clone)]
pub(super) struct Chance {
    percent: u8,
    random: fastrand::Rng,
}

impl Chance {
    pub(super) fn new(percent: u8, seed: u32) -> Self {
        Self {
            percent,
            random: fastrand::Rng::with_seed(seed.into()),
        }
    }

    /// Draws whether the next request is hit.
    pub(super) fn draw(&mut self) -> bool {
        self.random.u8(..100) < self.percent
    }
}

/// The effect of a fault on a call.
#[derive(Clone)]
pub(super) enum Effect {
    /// The connection is reset.
    Reset(Reset),
    /// A response is sent: the hub's own or a replacement, changed or not.
    Response(Option<Replacement>, Changes),
}

/// The moment of a reset: before the hub does anything, or after it has committed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Reset {
    Before,
    After,
}

/// A response in place of the hub's own.
#[derive(Clone)]
pub(super) struct Replacement {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<HeaderValue>,
    pub(super) location: Option<HeaderValue>,
}

/// Changes to a response.
#[derive(Clone)]
pub(super) struct Changes {
    pub(super) body: Option<Vec<u8>>,
    pub(super) body_bytes: Option<usize>,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) truncate_at: Option<usize>,
}

impl Changes {
    /// Returns whether anything changes.
    pub(super) fn any(&self) -> bool {
        self.body.is_some()
            || self.body_bytes.is_some()
            || self.content_type.is_some()
            || self.truncate_at.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_has_its_percentage_and_repeats_by_its_seed() {
        let drawn = |percent, seed| -> Vec<bool> {
            let mut chance = Chance::new(percent, seed);
            (0..10_000).map(|_| chance.draw()).collect()
        };
        let count = |drawn: Vec<bool>| drawn.into_iter().filter(|drawn| *drawn).count();
        assert!((400..600).contains(&count(drawn(5, 1))));
        assert_eq!(count(drawn(100, 1)), 10_000);
        assert_eq!(drawn(5, 1), drawn(5, 1));
        assert_ne!(drawn(5, 1), drawn(5, 2));
    }
}
