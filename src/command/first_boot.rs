//! The state of a first boot that has not enrolled this host, as the boot script of user data writes it.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Report;
use agent_core::clock;
use agent_core::environment::Environment;
use agent_core::store::safe_read;

/// In a folder that only root can read: other users get no line about the first boot.
const STATE: &str = "/var/lib/monsys-boot/state";

/// Adds the state of the first boot to the report of a host that is not enrolled.
pub(super) fn add_to(report: &mut Report, environment: &Environment) {
    let Ok(bytes) = safe_read::own(&environment.resolved_path(STATE)) else {
        return;
    };
    let text = String::from_utf8_lossy(&bytes);
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    };
    let is_final = value("state").as_deref() == Some("final");
    let next = value("next")
        .and_then(|secs| secs.parse().ok())
        .map(|secs| clock::rfc3339(clock::of_1970(std::time::Duration::from_secs(secs))));
    let error = value("error").unwrap_or_default();
    let _ = match &next {
        _ if is_final => writeln!(
            report.text,
            "First boot: failed, and only an operator tries again."
        ),
        Some(next) => writeln!(
            report.text,
            "First boot: not enrolled yet; the next try: {next}."
        ),
        None => writeln!(
            report.text,
            "First boot: not enrolled yet; it is trying, or the next boot tries."
        ),
    };
    let _ = writeln!(
        report.text,
        "  cause: {error}\n  hint:  fix the cause, then: sh /var/lib/monsys-boot/boot.sh"
    );
    report.json["first_boot"] = json!({
        "state": if is_final { "final" } else { "trying" },
        "next_try": next,
        "exit_code": value("code").and_then(|code| code.parse::<u8>().ok()).map_or(Value::Null, Value::from),
        "error": error,
    });
}
