//! `monsys-agent facts`.

use std::fmt::Write;

use serde_json::Value;

use super::Report;
use crate::cli::FactsArgs;
use crate::dialects;
use agent_core::environment::Environment;
use agent_core::error::Result;
use agent_core::escape::one_line;
use agent_core::facts::route::Target;
use agent_core::facts::{HostFacts, Interface};
use agent_core::inserted::inserted;
use agent_core::text::{format_value, rows};

/// Reports exactly the metadata that an enrolment would send.
///
/// # Errors
/// Only those of the settings. A fact that cannot be read is not an error.
pub(super) async fn run(args: &FactsArgs, environment: &Environment) -> Result<Report> {
    let flags = args.flags();
    let host = dialects::open_for_facts(&flags, environment)?;
    let settings = host.settings();
    let target = Target::resolve(settings).await;
    let facts = HostFacts::gather(settings, environment, &target);
    let sent = host.facts(&facts);
    let table: Vec<(&str, String)> = sent
        .iter()
        .filter(|(name, _)| *name != INTERFACES)
        .map(|(name, value)| (*name, format_value(value)))
        .collect();
    let mut text = rows(&table);
    if table.len() < sent.len() {
        text.push_str("  interfaces\n");
        for interface in &facts.interfaces {
            let _ = writeln!(text, "    {}", one_line(&line(interface)));
        }
    }
    let json = sent
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    Ok(Report::new(text, Value::Object(inserted(json))))
}

/// The name of the interfaces in every dialect that sends them.
const INTERFACES: &str = "interfaces";

fn line(interface: &Interface) -> String {
    let marks = [
        (interface.is_management, "management"),
        (interface.is_loopback, "loopback"),
        (interface.is_virtual, "virtual"),
        (interface.is_wireless, "wireless"),
        (interface.is_up, "up"),
        (!interface.is_up, "down"),
    ];
    let marks: Vec<&str> = marks
        .iter()
        .filter_map(|(is, mark)| is.then_some(*mark))
        .collect();
    let addresses: Vec<String> = interface
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    format!(
        "{}  {}  {}",
        interface.name,
        marks.join(" "),
        addresses.join(" ")
    )
    .trim_end()
    .to_owned()
}
