//! One form of the version for repository and file, and the way back to an older version.

use std::fs;

use serde_json::json;

use super::{scene, settings, with};
use crate::disk::Disk;
use crate::lan::Lan;
use crate::machine::Machine;
use crate::one_liner::expect_in_service;
use crate::prepared::{dist, older_packages};

const NEW: &str = env!("CARGO_PKG_VERSION");
const OLD: &str = "0.0.9";

fn installed(host: &Machine<'_>) -> String {
    host.run_ok("dpkg-query --show --showformat='${Version}' monsys-agent")
}

/// Makes an apt repository of both versions on the host, its only one.
fn repository(host: &Machine<'_>) {
    for (folder, version) in [(older_packages(), OLD), (dist(), NEW)] {
        let name = format!("monsys-agent_{version}-1_amd64.deb");
        let to = host.disk.path(&format!("srv/repository/{name}"));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(folder.join(&name), to).unwrap();
    }
    host.run_ok(
        "cd /srv/repository
        for deb in *.deb; do
          dpkg-deb --field $deb | sed '/^$/d'
          echo \"Filename: ./$deb\"
          echo \"Size: $(stat --format=%s $deb)\"
          echo \"SHA256: $(sha256sum <$deb | cut -d' ' -f1)\"
          echo
        done >Packages
        rm -f /etc/apt/sources.list.d/*
        echo 'deb [trusted=yes] file:/srv/repository ./' >/etc/apt/sources.list
        apt-get -qq update",
    );
}

#[test]
fn one_form_of_the_version_is_for_repository_and_file() {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let disk = Disk::debian("bookworm", "web-1");
    let (host, controller) = scene(&lan, &disk, &[]);
    repository(&host);
    let mut settings = with(settings(&hub), "monsys_agent_method", "package");
    settings["monsys_agent_binary"] = json!("");
    let file = |folder: std::path::PathBuf, version: &str| {
        let name = format!("monsys-agent_{version}-1_amd64.deb");
        json!(folder.join(name))
    };
    let name = json!("monsys-agent");
    let (new, old) = (file(dist(), NEW), file(older_packages(), OLD));
    // Package, version in the variable, version on the host, and whether that changes the host.
    let steps = [
        (&name, NEW, NEW, true),
        (&name, NEW, NEW, false),
        (&name, "0.0.9", OLD, true),
        (&name, "0.0.9-1", OLD, false),
        (&name, "v0.0.9", OLD, false),
        (&name, "", OLD, false),
        (&new, NEW, NEW, true),
        (&new, "0.1.0-1", NEW, false),
        (&old, "", OLD, true),
    ];
    for (package, version, expected, changes) in steps {
        settings["monsys_agent_package"] = package.clone();
        settings["monsys_agent_version"] = json!(version);
        let played = controller.role(&token, &settings, &[]).expect_success();
        let what = format!("{package} of version {version:?}");
        assert_eq!(installed(&host), format!("{expected}-1"), "{what}");
        assert_eq!(
            played.changed("web-1") > 0,
            changes,
            "{what}\n{}",
            played.output
        );
        expect_in_service(&hub, &host);
    }
    hub.expect_one_slot();

    // A version that is nowhere, and a form that is none, leave the host as it is.
    settings["monsys_agent_package"] = name;
    for (version, says) in [
        (
            "0.3.0",
            "no available installation candidate for monsys-agent=0.3.0",
        ),
        ("0.1", "monsys_agent_version is not a version such as 0.1.0"),
        (
            "latest",
            "monsys_agent_version is not a version such as 0.1.0",
        ),
    ] {
        settings["monsys_agent_version"] = json!(version);
        controller.role("", &settings, &[]).expect_failure(&[says]);
        assert_eq!(installed(&host), format!("{OLD}-1"));
    }
    expect_in_service(&hub, &host);
}
