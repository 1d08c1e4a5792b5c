//! The matrix: every way to install, on every release, through the life of a host: installed, installed again,
//! upgraded, removed.
//!
//! Each release has one way in every run, and all of them in a long one (`cargo xtask test hosts --long`).

use std::fs;

use serde_json::{Value, json};

use crate::ansible;
use crate::ansible::controller::Controller;
use crate::cloud_init::{expect_done, seed};
use crate::common::TestHub;
use crate::disk::Disk;
use crate::fleet;
use crate::lan::Lan;
use crate::machine::Machine;
use crate::one_liner::{
    ONE_LINER, PROGRAM, expect_in_service, expect_no_trace, put_older_program, trust,
};
use crate::packages::{OLDER, VERSION, bring, enrol};
use crate::prepared::{dist, older_packages};
use crate::templates::template;

/// A way to install.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Installer,
    Deb,
    Ansible,
    CloudInit,
    Terraform,
}

const WAYS: [Way; 5] = [
    Way::Installer,
    Way::Deb,
    Way::Ansible,
    Way::CloudInit,
    Way::Terraform,
];

/// One host of the matrix, and what its way needs.
struct Row<'a> {
    way: Way,
    hub: &'a TestHub,
    token: &'a str,
    disk: &'a Disk,
    host: Option<Machine<'a>>,
    controller: Option<Controller>,
    /// The user data of cloud-init's ways.
    user_data: String,
}

impl Row<'_> {
    fn host(&self) -> &Machine<'_> {
        self.host.as_ref().unwrap()
    }

    /// Plays the role with these variables in addition to those of every test.
    fn play(&self, variables: &[(&str, Value)]) -> u32 {
        let mut all = ansible::settings(self.hub);
        for (name, value) in variables {
            all[*name] = value.clone();
        }
        let controller = self.controller.as_ref().unwrap();
        let played = controller.role(self.token, &all, &[]).expect_success();
        played.changed(&self.disk.name)
    }

    /// Boots the host again with the same user data, as if it had never been booted.
    fn provision_again(&mut self) {
        self.host().run_ok("cloud-init clean --logs");
        seed(self.disk, &self.user_data);
        self.host = self.host.take().map(Machine::reboot);
        expect_done(self.host());
    }

    fn install(&mut self) {
        let token = [("MONSYS_TOKEN", self.token)];
        match self.way {
            Way::Installer => {
                self.host().run_with(&token, ONE_LINER).expect(0);
            }
            Way::Deb => {
                self.host().run_ok("dpkg -i /root/old.deb");
                enrol(self.host(), self.token);
            }
            Way::Ansible => assert_ne!(self.play(&[]), 0),
            Way::CloudInit | Way::Terraform => expect_done(self.host()),
        }
    }

    fn install_again(&mut self) {
        match self.way {
            Way::Ansible => assert_eq!(self.play(&[]), 0),
            Way::CloudInit | Way::Terraform => self.provision_again(),
            Way::Installer | Way::Deb => self.install(),
        }
    }

    fn upgrade(&mut self) {
        if self.way == Way::Deb {
            self.host().run_ok("dpkg -i /root/new.deb");
            let version = "dpkg-query --show --showformat='${Version}' monsys-agent";
            assert_eq!(self.host().run_ok(version), format!("{VERSION}-1"));
            return;
        }
        let new = put_older_program(self.host());
        match self.way {
            Way::Ansible => assert_ne!(self.play(&[]), 0),
            Way::CloudInit | Way::Terraform => self.provision_again(),
            Way::Installer | Way::Deb => self.install(),
        }
        assert!(fs::read(self.disk.path(PROGRAM)).unwrap() == new);
        let host = self.host();
        let pid = host.run_ok("systemctl show --value --property=MainPID monsys-agent");
        let running = fs::read(host.path(&format!("proc/{}/exe", pid.trim()))).unwrap();
        assert!(running == new, "the old program is still in service");
    }

    fn remove(&mut self) {
        match self.way {
            Way::Deb => {
                self.host().run_ok("dpkg --purge monsys-agent");
            }
            Way::Ansible => {
                let absent = json!("absent");
                let changed = self.play(&[
                    ("monsys_agent_state", absent),
                    ("monsys_agent_purge", json!(true)),
                ]);
                assert_ne!(changed, 0);
            }
            Way::Installer | Way::CloudInit | Way::Terraform => {
                self.host().run_ok("monsys-agent uninstall --purge");
            }
        }
        for gone in [
            "etc/monsys",
            "var/lib/monsys",
            PROGRAM,
            "usr/bin/monsys-agent",
        ] {
            assert!(!self.disk.exists(gone), "{gone} stays");
        }
        assert_ne!(self.host().run("systemctl cat monsys-agent").code, 0);
    }

    /// Checks that the host is in service as the one agent of the hub, and that it has no token.
    fn expect_enrolled(&self) -> Value {
        expect_in_service(self.hub, self.host());
        self.hub.expect_one_slot();
        expect_no_trace(self.host(), self.token);
        self.hub.agents()[0]["agent_id"].clone()
    }
}

/// Takes a host through its life in this way.
fn row(release: &str, way: Way) {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let is_cloud = matches!(way, Way::CloudInit | Way::Terraform);
    let disk = if is_cloud {
        Disk::with_cloud_init(release, "web-0")
    } else {
        Disk::debian(release, "web-0")
    };
    trust(&hub, &disk);
    let user_data = match way {
        Way::CloudInit => template("plain.yaml", &hub, &[("enrl_REPLACE-THIS", &token)]),
        Way::Terraform => fleet::render(&hub, &token).swap_remove(0),
        _ => String::new(),
    };
    if is_cloud {
        seed(&disk, &user_data);
    }
    if way == Way::Deb {
        let name = |version: &str| format!("monsys-agent_{version}-1_amd64.deb");
        bring(&disk, &older_packages().join(name(OLDER)), "old.deb");
        bring(&disk, &dist().join(name(VERSION)), "new.deb");
    }
    let host = lan.boot(&disk);
    let controller = (way == Way::Ansible).then(|| {
        let controller = Controller::new();
        controller.adopt(&host, &["web"]);
        controller
    });
    let mut row = Row {
        way,
        hub: &hub,
        token: &token,
        disk: &disk,
        host: Some(host),
        controller,
        user_data,
    };
    row.install();
    let id = row.expect_enrolled();
    row.install_again();
    assert_eq!(row.expect_enrolled(), id);
    row.upgrade();
    assert_eq!(row.expect_enrolled(), id);
    row.remove();
    println!("{release} {way:?}: installed, again, upgraded, removed");
}

/// Takes a host through its life in `way`, or in a long run one host in each way.
fn rows(release: &str, way: Way) {
    if std::env::var_os("MONSYS_TEST_MATRIX").is_none() {
        return row(release, way);
    }
    for way in WAYS {
        // Each on a network of its own.
        let row = std::thread::scope(|scope| scope.spawn(|| row(release, way)).join());
        row.unwrap_or_else(|_| panic!("{release} {way:?} has failed"));
    }
}

#[test]
fn a_life_on_bullseye() {
    rows("bullseye", Way::Terraform);
}

#[test]
fn a_life_on_bookworm() {
    rows("bookworm", Way::CloudInit);
}

#[test]
fn a_life_on_trixie() {
    rows("trixie", Way::Ansible);
}

#[test]
fn a_life_on_forky() {
    rows("forky", Way::Installer);
}
