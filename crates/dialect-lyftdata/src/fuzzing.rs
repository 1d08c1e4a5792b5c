//! Doors for the fuzz targets (`fuzz/`) to what is private. For nobody else.

use agent_core::hub::client::Reply;
use agent_core::hub::response::{self, Outcome};

use crate::exchange;

/// Reads the response to an enrolment by the name `name`. Returns its fields by their names.
#[must_use]
pub fn enrolment(url: &str, reply: Reply, name: &str) -> Outcome<Vec<(&'static str, String)>> {
    response::classify(url, Ok(reply), |reply| {
        let worker = exchange::accepted(reply, name)?;
        Ok(vec![
            ("worker", worker.id),
            ("api_key", worker.api_key.to_string()),
        ])
    })
}
