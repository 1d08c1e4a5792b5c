//! An installation after the hub has accepted the host: nothing is taken back any more.

use std::fs;

use serde_json::json;

use crate::common::{Mint, Prepared, Run, TestHost, TestHub};
use crate::scenario::{Case, Scenario, must, names};

/// The last of these calls in the record of a run brings the hub's answer.
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
        host.lay("usr/lib/systemd/systemd", "");
        host.lay("etc/systemd/system/other.service", "");
        host.lay("usr/local/bin/other", "");
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

    fn is_whole(&self, _: Option<&[u8]>, run: &Run) -> Result<(), String> {
        let state = fs::read_to_string(self.host.path("var/lib/monsys/state.json"));
        let is_accepted = state.is_ok_and(|state| state.contains("\"enrolled_at\": \""))
            || run.stderr.contains("the hub has accepted this host");
        // How often a run wakes itself is not the same each time, so a blow may come before the answer.
        if !is_accepted {
            return Ok(());
        }
        for path in PLACED {
            let is_there = self.host.path(path).exists();
            must(is_there, &format!("{path} was taken back"), run)?;
        }
        Ok(())
    }

    fn goes_on(&self, hub: &TestHub) -> Result<(), String> {
        let again = self.command(hub).run();
        must(again.code == 0, "the next run failed", &again)?;
        let uses = hub.uses(&self.id).len();
        must(uses == 1, &format!("{uses} uses"), &again)?;
        let purge = self.host.agent(&["uninstall", "--purge"]).run();
        must(purge.code == 0, "it is not taken away", &purge)?;
        must(names(&self.host).is_empty(), "files are left", &purge)?;
        let stray = PLACED
            .iter()
            .find(|path| fs::symlink_metadata(self.host.path(path)).is_ok());
        must(stray.is_none(), &format!("{stray:?} is left"), &purge)
    }
}
