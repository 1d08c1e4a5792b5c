//! Files that the service's user or another user planted where root's commands read: root trusts none of
//! them, and nothing else on the host changes. Each test is one attack.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Run, SERVICE_USER, TestHost, TestHub, needs_root};

/// The kinds of planted files.
type Planted<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>);

const TOKEN: &str = "enrl_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefg";
const CONFIG: &str = "etc/monsys/agent.toml";

fn enrolled(hub: &TestHub) -> TestHost {
    let host = TestHost::with_service_user();
    host.enrol(hub, &hub.token()).run().expect(0);
    host
}

/// Adds `line` at the top of agent.toml, and gives the file to another user.
fn plant(host: &TestHost, line: &str) {
    let text = format!("{line}\n{}", host.agent_toml());
    fs::write(host.path(CONFIG), text).unwrap();
    chown(host.path(CONFIG), Some(SERVICE_USER), None).unwrap();
}

#[track_caller]
fn expect_refused(run: Run) {
    let run = run.expect(78);
    // `doctor` has it in its report.
    let output = format!("{}{}", run.stdout, run.stderr);
    for part in ["root does not trust", "agent.toml", "chown"] {
        assert!(output.contains(part), "no {part:?} in\n{output}");
    }
}

/// Returns path, owner, mode and content of every file that is not the agent's.
fn rest(host: &TestHost) -> Vec<(PathBuf, u32, u32, Vec<u8>)> {
    let own = ["etc/monsys", "var/lib/monsys"].map(|path| host.path(path));
    // Files in /run/monsys may be endless.
    let top = host.names("").into_iter().filter(|name| name != "run");
    let files = top.flat_map(|name| {
        if host.path(&name).is_dir() {
            host.files(&name)
        } else {
            vec![(host.path(&name), fs::read(host.path(&name)).unwrap())]
        }
    });
    files
        .filter(|(path, _)| !own.iter().any(|own| path.starts_with(own)))
        .map(|(path, bytes)| {
            let there = fs::symlink_metadata(&path).unwrap();
            (path, there.uid(), there.mode(), bytes)
        })
        .collect()
}

fn has_systemd(host: &TestHost) {
    host.write_file("usr/lib/systemd/systemd", "");
    for folder in ["usr/local/bin", "etc/systemd/system"] {
        fs::create_dir_all(host.path(folder)).unwrap();
    }
}

/// security.md, A1: `state_dir = "/etc"` changed the owner of /etc. Now the tree is taken over, and the planted
/// line is dropped.
#[test]
#[ignore = "needs root: gives files to other users"]
fn install_changes_the_owner_of_no_foreign_folder() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    has_systemd(&host);
    host.write_file("etc/shadow", "root:secret\n");
    plant(&host, "state_dir = \"/etc\"");
    let before = rest(&host);
    let run = host.agent(&["install", "--no-enrol"]).run();
    run.expect(0).expect_stderr(&["dropped", "state_dir"]);
    let after = rest(&host);
    for file in &before {
        assert!(after.contains(file), "{:?} changed", file.0);
    }
    for (path, uid, ..) in after {
        assert_eq!(uid, 0, "{}", path.display());
    }
}

/// security.md, A1 and A6, without the takeover: no command of root trusts such a file.
#[test]
#[ignore = "needs root: gives files to other users"]
fn every_command_rejects_a_file_of_another_user() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    host.write_file(
        "var/lib/otherapp/state.json",
        "{\"a\":\"data of another program\"}",
    );
    host.write_file("var/lib/otherapp/lock", "KEEP");
    plant(&host, "state_dir = \"/var/lib/otherapp\"");
    let before = rest(&host);
    for arguments in [
        &["enrol"][..],
        &["enrol", "--force"],
        &["enrol", "--dry-run"],
        &["enrol", "--defer"],
        &["unenrol"],
        &["unenrol", "--force"],
        &["rotate-key"],
        &["rotate-token", "--token-file", "-"],
        &["status"],
        &["doctor"],
        &["facts"],
        &["run"],
    ] {
        let prepared = host.agent(arguments).env("MONSYS_TOKEN", TOKEN);
        expect_refused(prepared.run());
        assert_eq!(rest(&host), before, "{arguments:?}");
    }
    assert_eq!((hub.agents().len(), hub.spent()), (1, 1));
}

/// security.md, A6: files of another program with the names of ours are not removed from any folder.
#[test]
#[ignore = "needs root: gives files to other users"]
fn only_files_of_our_format_are_removed() {
    let hub = TestHub::new();
    let host = TestHost::with_service_user();
    has_systemd(&host);
    let state_dir = ["--state-dir", "/var/lib/otherapp"];
    host.enrol_with(&hub, &hub.token(), &state_dir)
        .run()
        .expect(0);
    let foreign = "{\"a\":\"data of another program\"}";
    host.write_file("var/lib/otherapp/heartbeat.json", foreign);
    host.write_file(
        "var/lib/otherapp/agent-signing.key.next-x",
        "the notes of another program",
    );
    let purge = [&["uninstall", "--purge"][..], &state_dir].concat();
    host.agent(&purge).run().expect(0);
    let names = host.names("var/lib/otherapp");
    assert!(
        !names.contains(&"agent-signing.key".to_owned()),
        "{names:?}"
    );
    for name in ["heartbeat.json", "agent-signing.key.next-x"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
    }

    let host = TestHost::with_service_user();
    host.write_file("var/lib/otherapp/state.json", foreign);
    host.write_file("var/lib/otherapp/lock", "");
    let unenrol = [&["unenrol", "--force"][..], &state_dir].concat();
    host.agent(&unenrol).run().expect(0);
    let after = fs::read_to_string(host.path("var/lib/otherapp/state.json")).unwrap();
    assert_eq!(after, foreign);
}

/// security.md, A4 and A5: hub, CA, proxy, token and facts are not read from a file of another user, so nothing
/// is sent.
#[test]
#[ignore = "needs root: gives files to other users"]
fn nothing_is_sent_to_a_hub_that_another_user_set() {
    let hub = TestHub::new();
    let thief = TestHub::with(mock_hub::Options {
        http: true,
        ..mock_hub::Options::default()
    });
    let host = enrolled(&hub);
    let good = host.agent_toml();
    host.write_file("root/secret", TOKEN);
    let lines = [
        "ca_file = '/var/lib/monsys/ca.pem'\nhttps_proxy = 'http://127.0.0.1:9'".to_owned(),
        "token_file = '/root/secret'".to_owned(),
        "token_command = 'touch /ran; echo enrl_x'".to_owned(),
        "host_hostname_file = '/root/secret'".to_owned(),
        "host_os_release_file = '/root/secret'".to_owned(),
    ];
    for line in lines {
        fs::write(host.path(CONFIG), &good).unwrap();
        plant(&host, &line);
        expect_refused(host.enrol(&hub, TOKEN).run());
        expect_refused(host.agent(&["facts"]).run());
    }
    // Another hub, with the credential removed: the simplest attack on a token.
    let text = format!("hub_url = '{}'\n", thief.url());
    fs::write(host.path(CONFIG), text).unwrap();
    chown(host.path(CONFIG), Some(SERVICE_USER), None).unwrap();
    expect_refused(host.agent(&["enrol"]).env("MONSYS_TOKEN", TOKEN).run());
    assert!(thief.agents().is_empty());
    assert_eq!((hub.agents().len(), hub.spent()), (1, 1));
}

/// Includes a folder above that is not root's, and files that agent.toml names.
#[test]
#[ignore = "needs root: gives files to other users"]
fn each_trusted_file_and_each_folder_above_it_is_checked() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    host.write_file(
        "srv/ca.pem",
        &fs::read_to_string(hub.ca_file().unwrap()).unwrap(),
    );
    host.write_file("srv/token", TOKEN);
    let text = format!(
        "ca_file = '/srv/ca.pem'\ntoken_file = '/srv/token'\n{}",
        host.agent_toml().replace("ca_file", "# ca_file")
    );
    fs::write(host.path(CONFIG), text).unwrap();
    host.agent(&["enrol"]).run().expect(0);
    for path in [
        "etc",
        "etc/monsys",
        CONFIG,
        "var/lib",
        "var/lib/monsys",
        "var/lib/monsys/state.json",
        "var/lib/monsys/agent-signing.key",
        "srv",
        "srv/ca.pem",
    ] {
        let there = fs::metadata(host.path(path)).unwrap();
        chown(host.path(path), Some(SERVICE_USER), None).unwrap();
        let run = host.agent(&["enrol", "--tag", "x"]).run().expect(78);
        let named = host.path(path);
        run.expect_stderr(&["root does not trust", named.to_str().unwrap()]);
        chown(host.path(path), Some(there.uid()), None).unwrap();

        let mode = there.mode() & 0o7777;
        let open = fs::Permissions::from_mode(mode | 0o002);
        fs::set_permissions(host.path(path), open).unwrap();
        let run = host.agent(&["enrol", "--tag", "x"]).run().expect(78);
        run.expect_stderr(&["chmod go-w", named.to_str().unwrap()]);
        fs::set_permissions(host.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    chown(host.path("srv/token"), Some(SERVICE_USER), None).unwrap();
    host.agent(&["enrol", "--force"])
        .run()
        .expect(78)
        .expect_stderr(&["srv/token"]);
    assert_eq!((hub.agents().len(), hub.spent()), (1, 1));
}

/// security.md, A8, also without the kernel's protection of hard links: here root makes the second name.
#[test]
#[ignore = "needs root: gives files to other users"]
fn a_hard_linked_lock_blocks_nothing_and_is_not_written() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    host.write_file("root/victim", "secret\n");
    fs::remove_file(host.path("var/lib/monsys/lock")).unwrap();
    fs::hard_link(host.path("root/victim"), host.path("var/lib/monsys/lock")).unwrap();
    host.agent(&["enrol", "--tag", "x"]).run().expect(0);
    let victim = host.path("root/victim");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "secret\n");
    assert_eq!(fs::metadata(&victim).unwrap().uid(), 0);
}

/// The service's user can write only `/run/monsys`: links, pipes, huge files and forged health files there
/// affect no command of root.
#[test]
#[ignore = "needs root: gives files to other users"]
fn files_that_the_service_can_write_are_untrusted() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    has_systemd(&host);
    host.write_file("etc/shadow", "root:secret\n");
    let note = host.path("run/monsys/heartbeat.json");
    let temporary = host.path("run/monsys/.monsys-heartbeat.json.tmp");
    let victim = host.path("etc/shadow");
    let hostile = format!(
        "{{\"agent_id\":\"{}\",\"interval_secs\":18446744073709551615,\"last_try\":\"\\u001b]0;x\\u0007\",\"failure\":{{\"since\":\"\",\"at\":\"\",\"tries\":1,\"id\":\"../..\",\"what\":\"\\u001b[2J\",\"cause\":\"\\u202e\",\"hint\":\"$(touch /ran)\"}}}}",
        host.key("agent_id").unwrap()
    );
    let before = rest(&host);
    let plants: [Planted<'_>; 6] = [
        ("link", Box::new(|path| symlink(&victim, path).unwrap())),
        (
            "hard link",
            Box::new(|path| fs::hard_link(&victim, path).unwrap()),
        ),
        (
            "pipe",
            Box::new(|path| {
                assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
            }),
        ),
        (
            "huge",
            Box::new(|path| {
                fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
            }),
        ),
        ("folder", Box::new(|path| fs::create_dir(path).unwrap())),
        ("note", Box::new(|path| fs::write(path, &hostile).unwrap())),
    ];
    for (name, plant) in &plants {
        for path in [&note, &temporary] {
            plant(path);
            if *name != "hard link" {
                std::os::unix::fs::lchown(path, Some(SERVICE_USER), Some(SERVICE_USER)).unwrap();
            }
        }
        for arguments in [
            &["status"][..],
            &["doctor"],
            &["enrol"],
            &["prepare"],
            &["facts"],
            &["rotate-key"],
            &["rotate-token", "--token-file", "-"],
            &["install", "--no-enrol", "--dry-run"],
        ] {
            let run = host.agent(arguments).run();
            // There is no new token, and the key is still pinned.
            assert!(
                [0, 64, 69, 75, 77].contains(&run.code),
                "{name}: {arguments:?}: {run:?}"
            );
            assert!(!run.stdout.contains('\u{1b}'), "{name}: {arguments:?}");
        }
        assert_eq!(rest(&host), before, "{name}");
        for path in [&note, &temporary] {
            let removed = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
            removed.unwrap();
        }
    }
    // Root can still unenrol and remove the files.
    symlink(&victim, &note).unwrap();
    host.agent(&["unenrol"]).run().expect(0);
    assert_eq!(rest(&host), before);
}

/// The mount point of a volume is root's, empty and world-writable.
#[test]
#[ignore = "needs root: gives files to other users"]
fn a_world_writable_empty_mount_point_gets_safe_permissions() {
    needs_root();
    let (hub, host) = (TestHub::new(), TestHost::new());
    let volume = host.path("var/lib/monsys");
    fs::create_dir_all(&volume).unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
    host.enrol(&hub, &hub.token()).run().expect(0);
    assert_eq!(host.mode("var/lib/monsys"), 0o700);
}

/// An operator may name any file; the stored path has to be a file that only root can write.
#[test]
#[ignore = "needs root: gives files to other users"]
fn a_ca_in_an_operators_home_is_copied() {
    let hub = TestHub::new();
    let host = TestHost::with_service_user();
    let text = fs::read_to_string(hub.ca_file().unwrap()).unwrap();
    let ca_file = host.write_file("home/op/ca.pem", &text);
    for path in [&ca_file, &host.path("home/op")] {
        chown(path, Some(1000), Some(1000)).unwrap();
    }
    let (url, path) = (hub.url(), ca_file.to_str().unwrap().to_owned());
    let enrol = ["enrol", "--hub-url", &url, "--ca-file", &path];
    let agent = || host.agent(&enrol).env("MONSYS_TOKEN", &hub.token());
    agent().run().expect(0);
    assert_eq!(host.key("ca_file").unwrap(), "/etc/monsys/hub-ca.pem");
    let copy = host.path("etc/monsys/hub-ca.pem");
    assert_eq!(fs::read_to_string(&copy).unwrap(), text);
    let there = fs::metadata(&copy).unwrap();
    assert_eq!((there.uid(), there.mode() & 0o7777), (0, 0o644));
    // Later commands accept the file, also if the operator names it again or changes it.
    fs::write(&ca_file, "").unwrap();
    host.agent(&["status"]).run().expect(0);
    host.agent(&["enrol", "--tag", "x"]).run().expect(0);
    hub.expect_one_slot();
}

/// The env file of `RavenXcope` is checked like agent.toml, also behind a link.
#[test]
#[ignore = "needs root: gives files to other users"]
fn an_env_file_of_another_user_is_rejected() {
    use crate::common::ravenxcope::{FILE, agent, env_text, mint, sensor};
    let hub = TestHub::new();
    for is_link in [false, true] {
        let host = TestHost::with_service_user();
        let id = if is_link { "sensor-2" } else { "sensor-1" };
        let text = env_text(&hub, id, &mint(&hub, id));
        let file = if is_link { "srv/real.env" } else { FILE };
        let file = host.write_file(file, &text);
        if is_link {
            fs::create_dir_all(host.path("etc/ravenxcope")).unwrap();
            symlink("/srv/real.env", host.path(FILE)).unwrap();
        }
        chown(&file, Some(SERVICE_USER), None).unwrap();
        for arguments in [&["enrol"][..], &["status"], &["facts"], &["run"]] {
            let run = agent(&host, &hub, arguments).run().expect(78);
            run.expect_stderr(&["root does not trust", file.to_str().unwrap()]);
        }
        assert_eq!(sensor(&hub, id)["enrolments"], 0);
    }
}
