//! Hosts that are not bare: an image with the package, a user or a group of the service's name.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{differences, scene, settings, with};
use crate::common::TestHub;
use crate::disk::Disk;
use crate::lan::Lan;
use crate::one_liner::expect_in_service;

/// Variables without a method, for a hub that is the mirror.
fn defaults(hub: &TestHub) -> serde_json::Value {
    let mut settings = settings(hub);
    let all = settings.as_object_mut().unwrap();
    all.remove("monsys_agent_method");
    all.remove("monsys_agent_binary");
    settings["monsys_agent_mirror_url"] = json!(hub.url());
    settings
}

#[test]
fn an_image_with_the_package_is_only_enrolled() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("trixie", "web-1");
    let (host, controller) = scene(&lan, &disk, &[]);
    let bare = disk.entries();
    let package = concat!("monsys-agent_", env!("CARGO_PKG_VERSION"), "-1_amd64.deb");
    std::fs::copy(
        crate::prepared::dist().join(package),
        disk.path("root/agent.deb"),
    )
    .unwrap();
    host.run_ok("dpkg -i /root/agent.deb && rm /root/agent.deb");
    let image = disk.entries();
    let settings = defaults(&hub);

    controller
        .role(&token, &settings, &["--check"])
        .expect_success();
    controller.role(&token, &settings, &[]).expect_success();
    expect_in_service(&hub, &host);
    hub.expect_one_slot();
    let mut made = differences(&image, &disk.entries());
    let own = ["etc/monsys", "var/lib/monsys"].map(Path::new);
    made.retain(|path| !own.iter().any(|own| path.starts_with(own)));
    assert_eq!(made, Vec::<PathBuf>::new());
    let again = controller.role("", &settings, &[]).expect_success();
    assert_eq!(again.changed("web-1"), 0, "{}", again.output);

    // A removal keeps the deb's record and the identity; a later purge removes both.
    let gone = with(settings.clone(), "monsys_agent_state", "absent");
    controller.role("", &gone, &[]).expect_success();
    let again = controller.role("", &gone, &[]).expect_success();
    assert_eq!(again.changed("web-1"), 0, "{}", again.output);
    let mut purged = with(gone, "monsys_agent_purge", true);
    purged["monsys_agent_unenrol"] = json!(false);
    controller.role("", &purged, &[]).expect_success();
    assert_ne!(host.run("dpkg-query --status monsys-agent").code, 0);
    let mut left = differences(&bare, &disk.entries());
    // As usual on Debian, the user of a deb stays; and dpkg writes its database.
    let is_system = |path: &PathBuf| {
        ["group", "gshadow", "passwd", "shadow"]
            .iter()
            .any(|name| *path == Path::new("etc").join(name))
            || path.starts_with("var/lib/dpkg/status")
            || path.starts_with("var/lib/dpkg/status-old")
            || path.starts_with("var/lib/dpkg/lock")
            || path.starts_with("var/lib/dpkg/triggers")
            || path.starts_with("var/cache")
            || path.starts_with("var/lib/apt")
            || path.starts_with("root/.ansible")
    };
    left.retain(|path| !is_system(path));
    assert_eq!(left, Vec::<PathBuf>::new());
    let again = controller.role("", &purged, &[]).expect_success();
    assert_eq!(again.changed("web-1"), 0, "{}", again.output);
}

/// A user or a group that the operator made is used, and it stays.
#[test]
fn an_existing_group_or_user_is_used_and_stays() {
    let lan = Lan::new();
    let hub = lan.hub();
    for (name, line, kept) in [
        ("web-1", "groupadd --system monsys", false),
        (
            "web-2",
            "useradd --system --user-group --no-create-home --home-dir /var/lib/monsys --shell /usr/sbin/nologin monsys",
            true,
        ),
    ] {
        let token = hub.token();
        let disk = Disk::debian("bookworm", name);
        let (host, controller) = scene(&lan, &disk, &[]);
        host.run_ok(line);
        let fresh = disk.entries();
        let settings = settings(&hub);
        controller.role(&token, &settings, &[]).expect_success();
        expect_in_service(&hub, &host);
        let again = controller.role("", &settings, &[]).expect_success();
        assert_eq!(again.changed(name), 0, "{}", again.output);
        let mut gone = with(settings, "monsys_agent_state", "absent");
        gone["monsys_agent_purge"] = json!(true);
        controller.role("", &gone, &[]).expect_success();
        let left = differences(&fresh, &disk.entries());
        assert_eq!(left, Vec::<PathBuf>::new(), "{line}");
        assert_eq!(host.run("getent passwd monsys").code == 0, kept, "{line}");
        assert_eq!(hub.agents().len(), 0);
    }
}
