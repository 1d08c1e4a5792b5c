//! What is interrupted: a command on a host, and what has to be true of it afterwards.

use crate::common::{Prepared, Run, TestHost, TestHub};

pub(crate) use crate::enrolled::ENROLMENTS;

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
    /// Checks what the interrupted run has left: agent.toml is never torn, and no success is told
    /// that is none. `before` is what agent.toml was.
    fn is_whole(&self, before: Option<&[u8]>, run: &Run) -> Result<(), String>;
    /// Does what comes next on a host, undisturbed, and checks that all is well then.
    fn goes_on(&self, hub: &TestHub) -> Result<(), String>;
}

/// An error unless it holds, with what the run said.
pub(crate) fn must(holds: bool, fault: &str, run: &Run) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!(
            "{fault}: code {}\n{}{}",
            run.code, run.stdout, run.stderr
        ))
    }
}

/// Names of all files of the agent, sorted.
pub(crate) fn names(host: &TestHost) -> Vec<String> {
    let mut names: Vec<String> = ["etc/monsys", "var/lib/monsys"]
        .iter()
        .flat_map(|folder| host.files(folder))
        .map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
