//! A command on a host that is interrupted, and the checks afterwards.

use crate::common::{Prepared, Run, TestHost, TestHub};

pub(crate) use crate::enrolment::ENROLMENTS;

/// One command that changes the host.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) prepare: fn(&TestHub) -> Box<dyn Case>,
}

/// A host that is about to be changed.
pub(crate) trait Case {
    fn host(&self) -> &TestHost;
    /// The command that is interrupted.
    fn command(&self, hub: &TestHub) -> Prepared;
    /// Checks the host after the interrupted run: agent.toml is complete, and success is reported only
    /// if the command succeeded. `before` is agent.toml before the run.
    fn check_interrupted(&self, before: Option<&[u8]>, run: &Run) -> Result<(), String>;
    /// Runs the next command of the host without injection, and checks that the host works.
    fn check_next_run(&self, hub: &TestHub) -> Result<(), String>;
}

/// Returns an error with the output of the run unless `holds`.
pub(crate) fn ensure(holds: bool, fault: &str, run: &Run) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!(
            "{fault}: code {}\n{}{}",
            run.code, run.stdout, run.stderr
        ))
    }
}

/// Returns the names of all files of the agent, sorted.
pub(crate) fn names(host: &TestHost) -> Vec<String> {
    let mut names: Vec<String> = ["etc/monsys", "var/lib/monsys"]
        .iter()
        .flat_map(|folder| host.files(folder))
        .map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
