//! The differences between the dialects.

use std::collections::BTreeSet;

use serde_json::Value;

use super::host::{Enrolled, Host, Ran};
use scenarios::hub::Operator;
use xtask::error::Result;

/// A dialect, with the secret that the hosts enrol with.
pub(crate) trait Dialect: Send + Sync + Sized + 'static {
    /// The hub's name of the route whose replies are lost.
    const ROUTE: &'static str;
    /// The thing that is counted beside hosts and agents, in one word.
    const ALSO: &'static str;

    /// Returns whether a POST to this path is an enrolment.
    fn is_enrolment(path: &str) -> bool;

    /// Makes the secret for so many hosts, as the operator of the hub at `url`.
    fn prepare(
        operator: &Operator,
        url: &str,
        hosts: u32,
    ) -> impl Future<Output = Result<Self>> + Send;

    /// Does the operator's part for one host, before the agent is first started there.
    fn prepare_host(
        &self,
        _operator: &Operator,
        _host: &Host,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// The agent's environment on this host.
    fn variables(&self, host: &Host) -> Vec<(&'static str, String)>;

    /// Follows the hint of a run that was refused because an earlier reply was lost; `false` if the
    /// run failed for another reason.
    fn fix(
        &self,
        _operator: &Operator,
        _host: &Host,
        _ran: &Ran,
    ) -> impl Future<Output = Result<bool>> + Send {
        async { Ok(false) }
    }

    /// Reads the credential of an enrolled host.
    fn on_disk(&self, host: &Host) -> Result<OnDisk>;

    /// Returns whether the hub accepts this credential as that of this agent.
    fn accepts(
        &self,
        operator: &Operator,
        on_disk: &OnDisk,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Reads the hub's records.
    fn records(
        &self,
        operator: &Operator,
        enrolled: &[Enrolled],
    ) -> impl Future<Output = Result<Records>> + Send;
}

/// A host's credential, as it is on its disk.
pub(crate) struct OnDisk {
    pub(crate) agent_id: String,
    /// In the form that [`Dialect::accepts`] reads.
    pub(crate) credential: String,
}

/// The hub's records.
pub(crate) struct Records {
    /// The number of agents, including doubled ones.
    pub(crate) agents: usize,
    /// Other counts that have to equal the number of hosts.
    pub(crate) counts: Vec<(&'static str, usize)>,
    /// The ids that the hub has recorded everywhere, and a line that says where.
    pub(crate) known: BTreeSet<String>,
    pub(crate) known_to: &'static str,
}

/// Returns a field of each entry that has it as a text.
pub(crate) fn texts<'a>(entries: &'a Value, field: &str) -> Vec<&'a str> {
    list(entries)
        .filter_map(|entry| entry[field].as_str())
        .collect()
}

/// Returns the entries of a list.
pub(crate) fn list(entries: &Value) -> impl Iterator<Item = &Value> {
    entries.as_array().into_iter().flatten()
}

/// Returns the number in a field.
pub(crate) fn number(entry: &Value, field: &str) -> usize {
    let number = entry[field].as_u64().unwrap_or_default();
    usize::try_from(number).unwrap_or_default()
}
