//! The role with the oldest and the newest ansible-core; in a long run with all between them.

use std::path::PathBuf;

use super::controller::Controller;
use super::{differences, settings, with};
use crate::disk::Disk;
use crate::lan::Lan;
use crate::one_liner::expect_in_service;

#[test]
fn each_ansible_core_enrols_and_removes_a_host() {
    let lan = Lan::new();
    let hub = lan.hub();
    let cores = crate::prepared::ansible_cores();
    assert!(cores.len() > 1, "{cores:?}");
    for (number, bin) in cores.into_iter().enumerate() {
        let token = hub.token();
        let name = format!("web-{number}");
        let disk = Disk::debian("bookworm", &name);
        let host = lan.boot(&disk);
        let controller = Controller::of(bin);
        let version = controller
            .command("ansible-playbook")
            .arg("--version")
            .output()
            .unwrap();
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        println!("{}", version.lines().next().unwrap_or_default());
        controller.adopt(&host, &["web"]);
        let fresh = disk.entries();
        let settings = settings(&hub);

        let checked = controller
            .role(&token, &settings, &["--check"])
            .expect_success();
        let first = controller.role(&token, &settings, &[]).expect_success();
        assert_eq!(first.changed(&name), checked.changed(&name), "{version}");
        let _ = first.expect_no_secret(&token, "enrol --output json");
        expect_in_service(&hub, &host);
        let again = controller.role("", &settings, &[]).expect_success();
        assert_eq!(again.changed(&name), 0, "{version}{}", again.output);
        let gone = with(settings, "monsys_agent_state", "absent");
        let gone = with(gone, "monsys_agent_purge", true);
        controller.role("", &gone, &[]).expect_success();
        assert_eq!(
            differences(&fresh, &disk.entries()),
            Vec::<PathBuf>::new(),
            "{version}"
        );
        assert_eq!(hub.agents().len(), 0);
    }
}
