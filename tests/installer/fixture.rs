//! A machine with a mirror, on which install.sh runs.

use crate::common::{Run, TestHub};
use crate::machine::{Changes, Machine};
use crate::release::Release;
use crate::script::{mirror, piped, served};

/// A machine, a mirror, and the release on the mirror.
pub(crate) struct Fixture {
    pub(crate) machine: Machine,
    pub(crate) hub: TestHub,
    pub(crate) release: Release,
    pub(crate) before: Changes,
    pub(crate) token: String,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::of(Release::new())
    }

    pub(crate) fn of(release: Release) -> Self {
        let machine = Machine::new();
        let hub = mirror(&release, &machine);
        let token = hub.token();
        Self {
            before: machine.changes(),
            machine,
            hub,
            release,
            token,
        }
    }

    /// Runs install.sh from the hub, and expects a failure that changes nothing.
    #[track_caller]
    pub(crate) fn expect_failure(&self, variables: &[(&str, &str)], code: i32, message: &[&str]) {
        let run = self.install(variables);
        self.expect_failed(run, code, message);
    }

    pub(crate) fn install(&self, variables: &[(&str, &str)]) -> Run {
        let script = served(&self.release, &self.hub);
        let mut all = vec![("MONSYS_TOKEN", self.token.as_str())];
        all.extend(variables);
        piped(&self.machine, &["sh"], &script, &all)
    }

    #[track_caller]
    pub(crate) fn expect_failed(&self, run: Run, code: i32, message: &[&str]) {
        let run = run
            .expect(code)
            .expect_stderr(&["error: ", "  cause: ", "  hint:  "]);
        run.expect_stderr(message);
        assert_eq!(self.machine.changes(), self.before, "something was changed");
        assert!(self.hub.agents().is_empty());
        self.machine
            .expect_no_file_with(self.token.strip_prefix("enrl_").unwrap());
    }
}
