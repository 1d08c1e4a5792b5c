//! `--offline`: the run asks no hub, so it can only report an enrolled host.

use super::outcome::{Confirmation, Enrolment};
use crate::enrolment::dialect::{Dialect, Plan};
use crate::error::{Error, ErrorId, Result};

/// Returns the result for a host that is enrolled as the settings say.
///
/// # Errors
/// [`ErrorId::NotEnrolled`], and [`ErrorId::BadArguments`] when the settings change the host, which only a hub
/// can confirm.
pub(super) fn enrolled(host: &dyn Dialect) -> Result<Enrolment> {
    if !host.is_enrolled()? {
        return Err(Error::new(
            ErrorId::NotEnrolled,
            "--offline sends nothing, so it cannot enrol this host",
        ));
    }
    match host.plan(None, false)? {
        Plan::Nothing | Plan::Repair | Plan::Confirm(_) => Ok(Enrolment {
            confirmation: Confirmation::NotRequested,
            ..host.enrolled()?
        }),
        Plan::Exchange(_) => Err(Error::new(
            ErrorId::BadArguments,
            "the run changes settings that the hub has to confirm, or completes an interrupted run",
        )
        .about("--offline")
        .hint("run the same command without --offline")),
    }
}
