//! The status of a worker, for people and for programs.

use serde_json::json;

use crate::files::EnrolmentState;
use crate::lyftdata::Lyftdata;
use agent_core::enrolment::StatusReport;
use agent_core::error::{ErrorId, Result};
use agent_core::text::rows;

/// Returns the status: whether this host is enrolled, and as which worker. Sends nothing.
///
/// # Errors
/// Files that cannot be read, and an incomplete credential.
pub(crate) fn report(host: &Lyftdata<'_>) -> Result<StatusReport> {
    let dir = host.jobs_dir.display().to_string();
    Ok(match host.enrolment_state()? {
        EnrolmentState::Enrolled(worker) => {
            let record = host.record_of(&worker)?;
            let (name, hub) =
                record.map_or((None, None), |record| (Some(record.name), record.hub_url));
            let hub = hub.or_else(|| host.hub_url());
            let shown =
                |value: &Option<String>| value.clone().unwrap_or_else(|| "not known".into());
            StatusReport {
                text: format!(
                    "This host is enrolled as a LyftData worker.\n{}",
                    rows(&[
                        ("server", shown(&hub)),
                        ("worker", worker.clone()),
                        ("name", shown(&name)),
                        ("jobs dir", dir)
                    ])
                ),
                json: json!({
                    "enrolled": true, "state": "enrolled", "dialect": "lyftdata",
                    "hub_url": hub, "worker": worker, "name": name, "jobs_dir": host.jobs_dir,
                }),
                exit_code: 0,
            }
        }
        enrolment_state => {
            let (word, cause) = match enrolment_state {
                EnrolmentState::Unfinished => (
                    "unfinished",
                    "the server has confirmed the worker, and an interrupted run has not written all of its files",
                ),
                _ => ("new", "there is no worker's id and no API key"),
            };
            StatusReport {
                text: format!(
                    "This host is not enrolled: {cause}.\n{}To enrol it: {}\n",
                    rows(&[("jobs dir", dir)]),
                    "LYFTDATA_AUTO_ENROLLMENT_KEY=… monsys-agent enrol --dialect lyftdata"
                ),
                json: json!({
                    "enrolled": false, "state": word, "dialect": "lyftdata",
                    "hub_url": host.hub_url(), "jobs_dir": host.jobs_dir,
                }),
                exit_code: ErrorId::NotEnrolled.kind().exit_code(),
            }
        }
    })
}
