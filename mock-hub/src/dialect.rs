//! The other enrolment systems that the mock hub speaks, beside monsys: a file or folder each.

mod lyftdata;
mod mimir;
mod ravenxcope;

use crate::faults::FaultPoint;
use crate::state::MockState;
use axum::Router;

/// An enrolment system.
pub(crate) struct Dialect {
    /// SQL that creates its tables unless they exist.
    pub(crate) tables: &'static str,
    /// Its calls that faults can happen to.
    pub(crate) fault_points: &'static [FaultPoint],
    /// Its routes.
    pub(crate) routes: fn() -> Router<MockState>,
}

/// The enrolment systems beside monsys.
pub(crate) const ALL: &[Dialect] = &[
    Dialect {
        tables: ravenxcope::TABLES,
        fault_points: ravenxcope::FAULT_POINTS,
        routes: ravenxcope::routes,
    },
    Dialect {
        tables: mimir::TABLES,
        fault_points: mimir::FAULT_POINTS,
        routes: mimir::routes,
    },
    Dialect {
        tables: lyftdata::TABLES,
        fault_points: lyftdata::FAULT_POINTS,
        routes: lyftdata::routes,
    },
];
