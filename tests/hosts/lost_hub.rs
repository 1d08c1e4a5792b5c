//! Booted hosts whose hub has lost its data.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::common::HubProcess;
use crate::common::lost_data::{self, Hosts};
use crate::disk::Disk;
use crate::lan::Lan;
use crate::machine::Machine;

const BOOTED: usize = 10;
/// The hub is killed at each of so many commits while the hosts return.
const COMMITS: usize = 5;
/// The service manager waits 30 s before each step.
const SOON: &str = "[Service]\nRestartSec=1s\n";
/// Longest wait for all hosts.
const BOUND: Duration = Duration::from_mins(5);

struct Booted<'a>(Vec<(Machine<'a>, String)>);

impl Hosts for Booted<'_> {
    fn ids(&self) -> BTreeSet<String> {
        self.0.iter().map(|(_, id)| id.clone()).collect()
    }

    fn tries(&self, ids: &BTreeSet<String>) -> Vec<usize> {
        let hosts = self.0.iter().filter(|(_, id)| ids.contains(id));
        hosts.map(|(host, _)| tries(host)).collect()
    }

    fn enrol_half_by_force(&self, token: &str) -> BTreeSet<String> {
        let half = self.0.iter().step_by(2);
        half.map(|(host, id)| {
            let variables = [("MONSYS_TOKEN", token)];
            host.run_with(&variables, "monsys-agent enrol --force")
                .expect(0);
            id.clone()
        })
        .collect()
    }

    fn until(&self, what: &str, condition: &mut dyn FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < BOUND, "timed out waiting for {what}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Returns how often the service was started again, without a start that is not complete.
fn tries(host: &Machine<'_>) -> usize {
    let show = "systemctl show --value --property=NRestarts monsys-agent; systemctl is-active monsys-agent";
    let shown = host.run(show).stdout;
    let mut lines = shown.lines();
    let restarts: usize = lines.next().unwrap().parse().unwrap();
    let is_complete = lines.next() == Some("active");
    restarts - usize::from(!is_complete && restarts > 0)
}

/// Installs and enrols a host.
fn enrol<'a>(host: Machine<'a>, token: &str) -> (Machine<'a>, String) {
    let install = "monsys-agent install --hub-url https://192.0.2.1:8443";
    host.run_with(&[("MONSYS_TOKEN", token)], install).expect(0);
    let toml: toml::Table = toml::from_str(&host.disk.read("etc/monsys/agent.toml")).unwrap();
    let id = toml["agent_id"].as_str().unwrap().to_owned();
    (host, id)
}

fn disk(hub: &HubProcess, number: usize) -> Disk {
    let disk = Disk::debian("bookworm", &format!("web-{number}"));
    crate::one_liner::trust_ca(&hub.ca_file(), &disk);
    let agent = disk.path("usr/local/bin/monsys-agent");
    std::fs::copy(crate::prepared::program(), agent).unwrap();
    disk.write("etc/systemd/system/monsys-agent.service.d/soon.conf", SOON);
    disk.write("etc/monsys/agent.toml", "readmission_interval = \"3s\"\n");
    disk
}

#[test]
fn booted_hosts_return_to_a_hub_that_has_lost_its_data() {
    let lan = Lan::new();
    let mut hub = lan.hub_process();
    let token = hub.token();
    let disks: Vec<_> = (0..BOOTED).map(|number| disk(&hub, number)).collect();
    let starting: Vec<_> = disks.iter().map(|disk| lan.start(disk)).collect();
    let hosts = starting.into_iter().map(|host| enrol(host.up(), &token));
    let hosts = Booted(hosts.collect());
    assert_eq!(hub.spent(), BOOTED as u64);

    lost_data::database_lost(&mut hub, &hosts);
    lost_data::older_copy(&mut hub, &hosts);
    lost_data::another_hub(&mut hub, &hosts);
    lost_data::killed_at_commits(&mut hub, &hosts, COMMITS);
    for (host, _) in &hosts.0 {
        host.run_ok("monsys-agent status --check-hub");
        host.run_ok("monsys-agent doctor");
    }
}
