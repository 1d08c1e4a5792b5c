//! install.sh in every shell: an installation, and the same command again.

use std::fs;

use crate::common::keys;
use crate::machine::Machine;
use crate::release::Release;
use crate::script::{http_mirror, mirror, only_busybox_wget, piped, served};

const SHELLS: [&[&str]; 6] = [
    &["dash"],
    &["bash", "--posix"],
    &["bash"],
    &["busybox", "ash"],
    &["mksh"],
    &["zsh"],
];

#[test]
#[ignore = "needs root: mounts an overlay"]
fn every_shell_installs_enrols_and_starts_the_service() {
    let release = Release::new();
    for shell in SHELLS {
        let machine = Machine::new();
        let hub = mirror(&release, &machine);
        let (script, token) = (served(&release, &hub), hub.token());
        let before = machine.changes();
        let shell = [shell, &["-s", "--", "--tag", "shard-3", "--output", "json"]].concat();

        let run = piped(&machine, &shell, &script, &[("MONSYS_TOKEN", &token)]).expect(0);
        let report = run.json();
        assert_eq!(report["result"], "installed", "{shell:?}");
        assert_eq!(report["service"], "started");
        assert_eq!(report["enrolment"]["result"], "enrolled");
        assert_eq!(
            keys(&report),
            [
                "binary",
                "changed",
                "changes",
                "enrolment",
                "install_record",
                "not_done",
                "result",
                "service",
                "version"
            ]
        );
        assert!(machine.path("run/up").exists());
        hub.expect_one_slot();
        assert_eq!(
            hub.agents()[0]["tags"].as_array().unwrap().last().unwrap(),
            "shard-3"
        );
        machine.expect_no_file_with(token.strip_prefix("enrl_").unwrap());
        assert!(
            !machine
                .service_calls()
                .iter()
                .any(|call| call.contains("TOKEN"))
        );

        let after = machine.changes();
        let stamps = stamps(&machine);
        let run = piped(&machine, &shell, &script, &[("MONSYS_TOKEN", &token)]).expect(0);
        assert_eq!(run.json()["changed"], false, "{shell:?}: {}", run.stdout);
        assert_eq!(machine.changes(), after);
        assert_eq!(
            self::stamps(&machine),
            stamps,
            "{shell:?}: a file was written again"
        );
        hub.expect_one_slot();

        let uninstall = machine.command(&["/usr/local/bin/monsys-agent", "uninstall", "--purge"]);
        crate::machine::run(uninstall).expect(0);
        assert_eq!(machine.changes(), before, "{shell:?}");
    }
}

/// Returns the modification time of each path that an installation makes.
fn stamps(machine: &Machine) -> Vec<(std::path::PathBuf, std::time::SystemTime)> {
    let mut stamps = Vec::new();
    for path in [
        "etc/monsys",
        "etc/monsys/agent.toml",
        "etc/passwd",
        "etc/systemd/system",
        "etc/systemd/system/monsys-agent.service",
        "etc/systemd/system/multi-user.target.wants",
        "usr/local/bin",
        "usr/local/bin/monsys-agent",
        "var/lib/monsys",
        "var/lib/monsys/install.json",
        "var/lib/monsys/state.json",
    ] {
        let path = machine.path(path);
        let time = fs::symlink_metadata(&path).unwrap().modified().unwrap();
        stamps.push((path, time));
    }
    stamps
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn installs_with_each_downloader_and_each_checksum_tool() {
    let release = Release::new();
    let all = ["sha256sum", "shasum", "openssl", "busybox"];
    for (gone, tool) in [
        (&["wget"][..], "curl"),
        (&["curl"], "GNU wget"),
        (&["curl", "wget"], "BusyBox wget"),
        (&["sha256sum"], "shasum"),
        (&["sha256sum", "shasum"], "openssl"),
        (&["sha256sum", "shasum", "openssl"], "busybox sha256sum"),
    ] {
        let machine = Machine::new();
        let hub = mirror(&release, &machine);
        for name in gone {
            machine.remove_program(name);
        }
        let plain = http_mirror(&release);
        let url = if tool == "BusyBox wget" {
            only_busybox_wget(&machine);
            format!("{}/dist", plain.url())
        } else {
            String::new()
        };
        assert!(
            all.iter()
                .any(|name| machine.path("usr/bin").join(name).exists())
        );
        let token = hub.token();
        let run = piped(
            &machine,
            &["dash"],
            &served(&release, &hub),
            &[("MONSYS_TOKEN", &token), ("MONSYS_DOWNLOAD_URL", &url)],
        );
        assert_eq!(run.code, 0, "{tool}: {}", run.stderr);
        hub.expect_one_slot();
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn installs_offline_from_a_folder_with_tmp_mounted_noexec() {
    let release = Release::new();
    let machine = Machine::new();
    let hub = mirror(&release, &machine);
    machine.remount("tmp", "noexec");
    // An air-gapped host: no downloader, and the release on a USB stick.
    machine.remove_program("curl");
    machine.remove_program("wget");
    for name in [crate::release::binary(), "install.sh".into()] {
        let bytes = fs::read(release.path(&name)).unwrap();
        machine.write_file(&format!("mnt/stick/{name}"), bytes);
    }
    let token = hub.token();
    let mut command = machine.command(&["sh", "/mnt/stick/install.sh", "--token-file", "-"]);
    command
        .env("MONSYS_DOWNLOAD_URL", "file:///mnt/stick")
        .env("MONSYS_HUB_URL", hub.url())
        .env("MONSYS_CA_FILE", crate::script::CA);
    // With the script as a file, standard input is free for the token.
    crate::script::feed(command, &token).expect(0);
    hub.expect_one_slot();
    assert_eq!(fs::read_dir(machine.path("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(machine.path("var/tmp")).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_private_ca_of_the_hub_and_a_public_ca_of_the_mirror_both_work() {
    let release = Release::new();
    for gone in ["wget", "curl"] {
        let machine = Machine::new();
        let site = mirror(&release, &machine);
        // The CA of the mirror is in the system's store, and the hub's is MONSYS_CA_FILE.
        let public = fs::read(machine.path(&crate::script::CA[1..])).unwrap();
        machine.write_file("etc/ssl/certs/ca-certificates.crt", public);
        let hub = mirror(&release, &machine);
        machine.remove_program(gone);
        let token = hub.token();
        let url = format!("{}/dist", site.url());
        let run = piped(
            &machine,
            &["dash"],
            &served(&release, &hub),
            &[("MONSYS_TOKEN", &token), ("MONSYS_DOWNLOAD_URL", &url)],
        );
        assert_eq!(run.code, 0, "without {gone}: {}", run.stderr);
        hub.expect_one_slot();
    }
}
