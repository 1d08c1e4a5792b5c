//! What differs between the systems that hosts enrol into.

use std::collections::BTreeSet;

use serde_json::Value;

use super::host::{Enrolled, Host, Ran};
use crate::error::Result;
use crate::hub::Operator;

/// A system, with the secret that the storm's hosts enrol with.
pub(super) trait System: Send + Sync + Sized + 'static {
    /// The hub's name of the route whose replies are lost.
    const ROUTE: &'static str;
    /// What there are as many of as hosts and agents, in one word.
    const ALSO: &'static str;

    /// Whether a POST to this path is an enrolment.
    fn is_enrolment(path: &str) -> bool;

    /// What the operator of the hub at `url` does first: makes the secret for so many hosts.
    fn prepare(
        operator: &Operator,
        url: &str,
        hosts: u32,
    ) -> impl Future<Output = Result<Self>> + Send;

    /// What the operator does for one host, before the agent is first started there.
    fn furnish(
        &self,
        _operator: &Operator,
        _host: &Host,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// The agent's environment on this host.
    fn variables(&self, host: &Host) -> Vec<(&'static str, String)>;

    /// If the run was refused since an answer was lost, and has said so: does what it tells the
    /// operator to do. `false`: it was not.
    fn fix(
        &self,
        _operator: &Operator,
        _host: &Host,
        _ran: &Ran,
    ) -> impl Future<Output = Result<bool>> + Send {
        async { Ok(false) }
    }

    /// What an enrolled host has on its disk.
    fn held(&self, host: &Host) -> Result<Held>;

    /// Whether the hub takes this credential for that of this agent.
    fn takes(&self, operator: &Operator, held: &Held) -> impl Future<Output = Result<bool>> + Send;

    /// All that the hub knows.
    fn books(
        &self,
        operator: &Operator,
        enrolled: &[Enrolled],
    ) -> impl Future<Output = Result<Books>> + Send;
}

/// What a host has on its disk.
pub(super) struct Held {
    pub(super) agent_id: String,
    /// As [`System::takes`] reads it.
    pub(super) credential: String,
}

/// The hub's books.
pub(super) struct Books {
    /// How many agents there are, doubled ones too.
    pub(super) agents: usize,
    /// What else there has to be as many of as hosts.
    pub(super) counts: Vec<(&'static str, usize)>,
    /// The ids that stand where they have to, and in words what that means.
    pub(super) known: BTreeSet<String>,
    pub(super) known_to: &'static str,
}

/// A field of each entry that has it as a text.
pub(super) fn texts<'a>(entries: &'a Value, field: &str) -> Vec<&'a str> {
    list(entries)
        .filter_map(|entry| entry[field].as_str())
        .collect()
}

/// The entries of a list.
pub(super) fn list(entries: &Value) -> impl Iterator<Item = &Value> {
    entries.as_array().into_iter().flatten()
}

/// The number of a field.
pub(super) fn number(entry: &Value, field: &str) -> usize {
    let number = entry[field].as_u64().unwrap_or_default();
    usize::try_from(number).unwrap_or_default()
}
