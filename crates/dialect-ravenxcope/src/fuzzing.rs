//! Doors for the fuzz targets (`fuzz/`) to what is private. For nobody else.

use agent_core::hub::client::Reply;
use agent_core::hub::response::Outcome;

use crate::wire;

/// Reads the response to an enrolment. Returns its fields by their names.
#[must_use]
pub fn enrolment(url: &str, reply: Reply) -> Outcome<Vec<(&'static str, String)>> {
    wire::classify(url, Ok(reply), |reply| {
        let credential = wire::admitted(reply)?;
        let seconds = credential.interval.as_secs().to_string();
        Ok(vec![
            ("sensorToken", credential.token.expose_secret().to_owned()),
            ("heartbeatIntervalSeconds", seconds),
        ])
    })
}

/// Reads the response to a heartbeat.
#[must_use]
pub fn heartbeat(url: &str, reply: Reply) -> Outcome<()> {
    wire::classify(url, Ok(reply), |_| Ok(()))
}
