//! An installation after the hub has accepted the host: nothing is rolled back.

use std::fs;

use serde_json::json;

use crate::common::{Mint, Prepared, Run, TestHost, TestHub};
use crate::scenario::{Case, Scenario, ensure, names};

/// The last of these calls in the trace of a run reads the hub's response.
pub(crate) const ACCEPTED: &str = " recvfrom(";

pub(crate) const SCENARIO: Scenario = Scenario {
    name: "an installation",
    prepare: |hub| Box::new(Installing::of(hub)),
};

const PLACED: [&str; 3] = [
    "usr/local/bin/monsys-agent",
    "etc/systemd/system/monsys-agent.service",
    "var/lib/monsys/install.json",
];

struct Installing {
    host: TestHost,
    token: String,
    id: String,
}

impl Installing {
    fn of(hub: &TestHub) -> Self {
        let (token, id) = hub.mint(&Mint::new().with("max_uses", json!(1)));
        let host = TestHost::new();
        host.write_file("usr/lib/systemd/systemd", "");
        host.write_file("etc/systemd/system/other.service", "");
        host.write_file("usr/local/bin/other", "");
        host.install_ca(hub);
        Self { host, token, id }
    }
}

impl Case for Installing {
    fn host(&self) -> &TestHost {
        &self.host
    }

    fn command(&self, hub: &TestHub) -> Prepared {
        let ca_file = self.host.path("etc/ssl/hub-ca.pem");
        self.host
            .agent(&["install"])
            .env("MONSYS_HUB_URL", &hub.url())
            .env("MONSYS_CA_FILE", ca_file.to_str().unwrap())
            .env("MONSYS_TOKEN", &self.token)
    }

    fn check_interrupted(&self, _: Option<&[u8]>, run: &Run) -> Result<(), String> {
        let state = fs::read_to_string(self.host.path("var/lib/monsys/state.json"));
        let is_accepted = state.is_ok_and(|state| state.contains("\"enrolled_at\": \""))
            || run.stderr.contains("the hub has accepted this host");
        // The number of wake-ups differs between runs, so an injection may come before the response.
        if !is_accepted {
            return Ok(());
        }
        for path in PLACED {
            let is_there = self.host.path(path).exists();
            ensure(is_there, &format!("{path} was rolled back"), run)?;
        }
        Ok(())
    }

    fn check_next_run(&self, hub: &TestHub) -> Result<(), String> {
        let again = self.command(hub).run();
        ensure(again.code == 0, "the next run failed", &again)?;
        let uses = hub.uses(&self.id).len();
        ensure(uses == 1, &format!("{uses} uses"), &again)?;
        let purge = self.host.agent(&["uninstall", "--purge"]).run();
        ensure(purge.code == 0, "it is not taken away", &purge)?;
        ensure(names(&self.host).is_empty(), "files remain", &purge)?;
        let stray = PLACED
            .iter()
            .find(|path| fs::symlink_metadata(self.host.path(path)).is_ok());
        ensure(stray.is_none(), &format!("{stray:?} remains"), &purge)
    }
}
