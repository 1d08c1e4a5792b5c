//! `monsys-agent facts`.

use std::fmt::Write;

use super::{Report, rows};
use crate::cli::FactsArgs;
use crate::error::Result;
use crate::facts::route::Target;
use crate::facts::{HostFacts, Interface};
use crate::hub::monsys;
use crate::settings::Settings;
use crate::world::World;

/// Prints exactly the metadata that an enrolment would send.
///
/// # Errors
/// Only for bad settings: no fact fails.
pub(super) async fn run(args: &FactsArgs, world: &World) -> Result<Report> {
    let settings = Settings::resolve_without(&args.flags(), world)?;
    let target = Target::resolve(&settings).await;
    let facts = HostFacts::gather(&settings, world, &target);
    let or_none = |value: Option<String>| value.unwrap_or("none".into());
    let mut text = rows(&[
        ("hostname", facts.hostname.clone()),
        ("os_info", facts.os_info.clone()),
        ("architecture", facts.architecture.clone()),
        ("kernel", facts.kernel.clone()),
        ("cpus", facts.cpus.to_string()),
        ("memory_bytes", facts.memory_bytes.to_string()),
        (
            "primary_ip",
            or_none(facts.primary_ip.map(|ip| ip.to_string())),
        ),
        (
            "machine_fingerprint",
            or_none(facts.machine_fingerprint.clone()),
        ),
        ("agent_version", facts.agent_version.into()),
    ]);
    text.push_str("  interfaces\n");
    for interface in &facts.interfaces {
        let _ = writeln!(text, "    {}", line(interface));
    }
    Ok(Report::new(text, monsys::facts_json(&facts)))
}

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
