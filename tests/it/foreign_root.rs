//! `--root` with an untrusted tree: links are resolved as on its host, and lead to nothing outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::ravenxcope::{self, env_text, mint};
use crate::common::{Run, TestHost, TestHub};

/// A tree with links to folders and files of this machine outside of the tree.
struct Foreign {
    host: TestHost,
    outside: tempfile::TempDir,
}

impl Foreign {
    fn new() -> Self {
        let outside = tempfile::tempdir().unwrap();
        // The targets of the links outside.
        for folder in [
            "bin",
            "systemd",
            "state",
            "etc/monsys",
            "init.d",
            "run",
            "cloud",
        ] {
            fs::create_dir_all(outside.path().join(folder)).unwrap();
        }
        for (file, text) in [
            ("etc/os-release", "PRETTY_NAME=Outside\n"),
            ("etc/machine-id", "ffffffffffffffffffffffffffffffff\n"),
            ("etc/hostname", "outside\n"),
            ("etc/passwd", "monsys:x:12345:12345::/:/bin/sh\n"),
            ("etc/monsys/agent.toml", "# outside\n"),
        ] {
            fs::write(outside.path().join(file), text).unwrap();
        }
        let host = TestHost::new();
        host.write_file("usr/lib/systemd/systemd", "");
        Self { host, outside }
    }

    /// Makes a link in the tree to a path that exists outside.
    fn link(&self, link: &str, outside: &str) -> &Self {
        let link = self.host.path(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        if fs::remove_file(&link).is_err() {
            drop(fs::remove_dir(&link));
        }
        symlink(self.outside.path().join(outside), link).unwrap();
        self
    }

    /// Returns the target of such a link inside of the tree.
    fn inside(&self, path: &str) -> PathBuf {
        let outside = self.outside.path().strip_prefix("/").unwrap();
        self.host.path("").join(outside).join(path)
    }

    /// Returns everything outside: names, bytes, owners, modes and times.
    fn state(&self) -> Vec<(PathBuf, String)> {
        fn walk(path: &Path, found: &mut Vec<(PathBuf, String)>) {
            let metadata = fs::symlink_metadata(path).unwrap();
            let looks = format!(
                "{:o} {}:{} {} {:?} {:?}",
                metadata.mode(),
                metadata.uid(),
                metadata.gid(),
                metadata.ino(),
                (metadata.ctime(), metadata.ctime_nsec()),
                fs::read(path).ok(),
            );
            found.push((path.to_owned(), looks));
            if metadata.is_dir() {
                for entry in fs::read_dir(path).unwrap() {
                    walk(&entry.unwrap().path(), found);
                }
            }
        }
        let mut found = Vec::new();
        walk(self.outside.path(), &mut found);
        found.sort();
        found
    }

    /// Runs `task` and checks that it changes nothing outside.
    #[track_caller]
    fn run(&self, run: impl FnOnce(&TestHost) -> Run) -> Run {
        let before = self.state();
        let run = run(&self.host);
        assert_eq!(self.state(), before, "{run:?}");
        run
    }

    fn facts(&self, variables: &[(&str, &str)]) -> Value {
        let arguments = [
            "facts",
            "--output",
            "json",
            "--hub-url",
            "https://127.0.0.1:1",
        ];
        let run = self.run(|host| {
            let mut agent = host.agent(&arguments);
            for (name, value) in variables {
                agent = agent.env(name, value);
            }
            agent.run()
        });
        run.expect(0).json()
    }
}

#[test]
fn an_installation_writes_below_the_root_and_is_uninstalled() {
    let tree = Foreign::new();
    tree.link("usr/local/bin", "bin")
        .link("etc/systemd/system", "systemd")
        .link("var/lib/monsys", "state");
    let install = |more: &[&str]| {
        let arguments = [&["install", "--no-enrol"], more].concat();
        tree.run(|host| host.agent(&arguments).run()).expect(0)
    };
    install(&["--dry-run"]);
    install(&[]);
    for file in [
        "bin/monsys-agent",
        "systemd/monsys-agent.service",
        "state/install.json",
    ] {
        assert!(tree.inside(file).is_file(), "{file}");
    }
    let wants = tree.inside("systemd/multi-user.target.wants/monsys-agent.service");
    assert!(wants.is_symlink());
    // A second run changes nothing.
    let again = install(&["--output", "json"]).json();
    assert_eq!(again["changed"], false, "{again}");
    tree.run(|host| host.agent(&["uninstall", "--purge"]).run())
        .expect(0);
    let remaining = tree.host.files("");
    let is_ours = |(path, _): &&(PathBuf, Vec<u8>)| path.to_string_lossy().contains("monsys-agent");
    assert!(
        !remaining.iter().any(|file| is_ours(&file)),
        "{remaining:?}"
    );
    assert!(!tree.inside("").exists(), "{remaining:?}");
}

#[test]
fn an_installation_changes_no_owner_outside_of_the_root() {
    let tree = Foreign::new();
    tree.link("etc/systemd/system", "systemd")
        .link("etc/monsys", "etc/monsys");
    tree.host
        .write_file("etc/passwd", "monsys:x:12345:12345::/:/bin/sh\n");
    // With any result, nothing outside is changed.
    tree.run(|host| host.agent(&["install", "--no-enrol"]).run());
    tree.run(|host| host.agent(&["uninstall", "--purge"]).run());
}

#[test]
fn an_enrolment_writes_below_the_root() {
    for links in [
        &[("var/lib/monsys", "state")][..],
        &[("etc/monsys", "etc/monsys")],
        &[("etc", "etc"), ("var", "state"), ("run", "run")],
        &[("etc", "run/../etc/../etc")],
    ] {
        let (hub, tree) = (TestHub::new(), Foreign::new());
        let ca_file = fs::read(hub.ca_file().unwrap()).unwrap();
        fs::write(tree.host.path("ca.pem"), ca_file).unwrap();
        for name in ["os-release", "machine-id"] {
            fs::remove_file(tree.host.path("etc").join(name)).unwrap();
        }
        for (link, outside) in links {
            tree.link(link, outside);
        }
        let before = hub.spent();
        let (url, ca_file) = (hub.url(), tree.host.path("ca.pem"));
        let arguments = [
            "enrol",
            "--hub-url",
            &url,
            "--ca-file",
            ca_file.to_str().unwrap(),
        ];
        let enrol = || {
            tree.run(|host| {
                let agent = host.agent(&arguments);
                agent.env("MONSYS_TOKEN", &hub.token()).run()
            })
        };
        enrol().expect(0);
        assert_eq!(hub.spent(), before + 1);
        // Every written file is found again and removed.
        let again = enrol().expect(0);
        assert!(again.stdout.contains("is enrolled at"), "{again:?}");
        for command in [&["status"][..], &["unenrol"], &["uninstall", "--purge"]] {
            tree.run(|host| host.agent(command).run());
        }
        assert_eq!(hub.spent(), before + 1);
    }
}

#[test]
fn dangling_links_are_rejected_and_not_followed() {
    for link in [
        "etc/monsys",
        "var/lib/monsys",
        "var",
        "usr/local/bin",
        "etc/systemd",
    ] {
        let tree = Foreign::new();
        // A loop inside; the target outside would be a folder.
        tree.link(link, "bin");
        let other = tree.inside("bin");
        fs::create_dir_all(other.parent().unwrap()).unwrap();
        symlink(Path::new("/").join(link), other).unwrap();
        let run = tree.run(|host| host.agent(&["install", "--no-enrol"]).run());
        assert!([73, 74].contains(&run.code), "{link}: {run:?}");
        run.expect_stderr(&[link, "a symbolic link that cannot be resolved"]);
    }
}

#[test]
fn paths_in_agent_toml_are_below_the_root() {
    let (hub, tree) = (TestHub::new(), Foreign::new());
    let outside = tree.outside.path().join("token");
    fs::write(&outside, hub.token()).unwrap();
    let dots = format!("/../../../../../../../..{}", outside.display());
    for named in [outside.to_str().unwrap(), &dots, "/etc/token"] {
        tree.link("etc/token", "token");
        tree.host.write_file(
            "etc/monsys/agent.toml",
            &format!("hub_url = \"{}\"\ntoken_file = \"{named}\"\n", hub.url()),
        );
        tree.run(|host| host.agent(&["enrol", "--wait", "0s"]).run())
            .expect(74);
        assert_eq!(hub.spent(), 0);
    }
    let state = format!("/../../../../..{}/state", tree.outside.path().display());
    let toml = format!("hub_url = \"{}\"\nstate_dir = \"{state}\"\n", hub.url());
    tree.host.write_file("etc/monsys/agent.toml", &toml);
    let ca_file = tree.host.install_ca(&hub).unwrap();
    tree.run(|host| {
        let agent = host.agent(&["enrol", "--ca-file", ca_file.to_str().unwrap()]);
        agent.env("MONSYS_TOKEN", &hub.token()).run()
    })
    .expect(0);
    assert!(tree.inside("state/agent-signing.key").is_file());
}

#[test]
fn facts_are_read_below_the_root() {
    let tree = Foreign::new();
    for name in ["os-release", "machine-id"] {
        fs::remove_file(tree.host.path("etc").join(name)).unwrap();
    }
    fs::remove_file(tree.host.path("host-hostname")).unwrap();
    // As on NixOS: an absolute link to a folder of links.
    tree.host
        .write_file("nix/store/x/os-release", "PRETTY_NAME=NixOS\n");
    tree.host.write_file(
        "nix/store/x/machine-id",
        "0123456789abcdef0123456789abcdef\n",
    );
    tree.host.write_file("nix/store/x/hostname", "nixos-1\n");
    symlink("/nix/store/x", tree.host.path("etc/static")).unwrap();
    for name in ["os-release", "machine-id"] {
        let target = Path::new("/etc/static").join(name);
        symlink(target, tree.host.path("etc").join(name)).unwrap();
    }
    symlink("/etc/static/hostname", tree.host.path("host-hostname")).unwrap();
    let facts = tree.facts(&[]);
    assert_eq!(facts["os_info"], "NixOS");
    assert_eq!(facts["hostname"], "nixos-1");
    assert_eq!(
        facts["machine_fingerprint"],
        "0004324a1f4abb3ecbc6fc51435317b159c89dad68ea894d4818336e96dc488d"
    );
    // The same links to files that exist only outside.
    tree.link("etc/os-release", "etc/os-release")
        .link("etc/machine-id", "etc/machine-id")
        .link("host-hostname", "etc/hostname");
    let facts = tree.facts(&[]);
    assert_eq!(facts["os_info"], "linux");
    assert_ne!(facts["hostname"], "outside");
    assert_eq!(facts["machine_fingerprint"], Value::Null);
}

#[test]
fn facts_of_a_mounted_host_are_read_below_the_root() {
    let tree = Foreign::new();
    tree.host
        .write_file("host/nix/store/x/os-release", "PRETTY_NAME=NixOS\n");
    tree.host
        .write_file("host/nix/store/x/hostname", "nixos-1\n");
    symlink("/nix/store/x", tree.host.path("host/nix/static")).unwrap();
    fs::create_dir(tree.host.path("host/etc")).unwrap();
    for name in ["os-release", "hostname"] {
        let target = Path::new("/nix/static").join(name);
        symlink(target, tree.host.path("host/etc").join(name)).unwrap();
    }
    let facts = tree.facts(&[
        ("HOST_OS_RELEASE_FILE", "/host/etc/os-release"),
        ("HOST_HOSTNAME_FILE", "/host/etc/hostname"),
    ]);
    assert_eq!(facts["os_info"], "NixOS");
    assert_eq!(facts["hostname"], "nixos-1");
}

#[test]
fn cloud_init_files_are_read_below_the_root() {
    let (hub, tree) = (TestHub::new(), Foreign::new());
    let token = hub.token();
    let file = tree.outside.path().join("cloud/user-data.txt");
    fs::write(&file, &token).unwrap();
    tree.link("var/lib/cloud", "cloud");
    let run = tree.run(|host| {
        host.enrol_with(&hub, &token, &["--scrub-cloud-init", "yes"])
            .run()
    });
    run.expect(0);
    assert_eq!(fs::read_to_string(file).unwrap(), token);
    // Inside, the same link is followed.
    let inside = tree.inside("cloud");
    fs::create_dir_all(&inside).unwrap();
    fs::write(inside.join("user-data.txt"), &token).unwrap();
    tree.run(|host| {
        host.enrol_with(&hub, &token, &["--force", "--scrub-cloud-init", "yes"])
            .run()
    })
    .expect(0);
    let scrubbed = fs::read_to_string(inside.join("user-data.txt")).unwrap();
    assert_ne!(scrubbed, token);
}

#[test]
fn the_other_dialects_write_below_the_root() {
    let hub = TestHub::new();
    let tree = Foreign::new();
    let outside = tree.outside.path().join("bin/sensor-agent.env");
    fs::write(
        &outside,
        env_text(&hub, "sensor-1", &mint(&hub, "sensor-1")),
    )
    .unwrap();
    tree.link(ravenxcope::FILE, "bin/sensor-agent.env");
    let run = tree.run(|host| ravenxcope::agent(host, &hub, &["enrol"]).run());
    assert_ne!(run.code, 0);
    // A link inside is read but cannot be replaced.
    let inside = tree.inside("bin/sensor-agent.env");
    fs::create_dir_all(inside.parent().unwrap()).unwrap();
    fs::copy(&outside, &inside).unwrap();
    tree.run(|host| ravenxcope::agent(host, &hub, &["enrol"]).run())
        .expect(73)
        .expect_stderr(&["symbolic link"]);

    let tree = Foreign::new();
    tree.link("etc/mimir", "etc").link("jobs", "state");
    for arguments in [
        &[
            "enrol",
            "--dialect",
            "mimir",
            "--hub-url",
            "https://127.0.0.1:1",
            "--wait",
            "1s",
        ][..],
        &[
            "enrol",
            "--dialect",
            "lyftdata",
            "--worker-jobs-dir",
            "/jobs",
            "--worker-name",
            "w",
            "--hub-url",
            "https://127.0.0.1:1",
            "--wait",
            "1s",
        ],
    ] {
        let run = tree.run(|host| {
            host.agent(arguments)
                .env("MONSYS_TOKEN", "secret-1234567890")
                .run()
        });
        assert_ne!(run.code, 0);
    }
}

#[test]
fn a_missing_root_is_rejected() {
    let host = TestHost::new();
    let missing = host.path("missing");
    for more in [&["--dry-run"][..], &[]] {
        let output = std::process::Command::new(crate::common::program())
            .args(["install", "--no-enrol", "--root"])
            .arg(&missing)
            .args(more)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            [Some(73), Some(74)].contains(&output.status.code()),
            "{stderr}"
        );
        assert!(stderr.contains("/missing"), "{stderr}");
    }
    assert!(!missing.exists());
}
