//! What the service's user, or anybody else, has planted where root's commands look: root obeys none of
//! it, and nothing else on the host changes. Each test is an attack of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Run, SERVICE_USER, TestHost, TestHub, needs_root};

/// What is planted, and how.
type Planted<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>);

const TOKEN: &str = "enrl_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefg";
const CONFIG: &str = "etc/monsys/agent.toml";

fn enrolled(hub: &TestHub) -> TestHost {
    let host = TestHost::with_service_user();
    host.enrol(hub, &hub.token()).run().expect(0);
    host
}

/// Puts `line` on top of agent.toml, whose owner another user is then.
fn plant(host: &TestHost, line: &str) {
    let text = format!("{line}\n{}", host.agent_toml());
    fs::write(host.path(CONFIG), text).unwrap();
    chown(host.path(CONFIG), Some(SERVICE_USER), None).unwrap();
}

#[track_caller]
fn expect_refused(run: Run) {
    let run = run.expect(78);
    // `doctor` says it in its report.
    let said = format!("{}{}", run.stdout, run.stderr);
    for part in ["root does not trust", "agent.toml", "chown"] {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
}

/// Everything but the agent's own files: path, owner, mode, bytes.
fn rest(host: &TestHost) -> Vec<(PathBuf, u32, u32, Vec<u8>)> {
    let own = ["etc/monsys", "var/lib/monsys"].map(|path| host.path(path));
    // What is in /run/monsys may have no end.
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
    host.lay("usr/lib/systemd/systemd", "");
    for folder in ["usr/local/bin", "etc/systemd/system"] {
        fs::create_dir_all(host.path(folder)).unwrap();
    }
}

/// security.md, A1: `state_dir = "/etc"` gave all of /etc away. The tree is taken over instead, and the
/// planted line is dropped.
#[test]
fn install_gives_no_folder_away() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    has_systemd(&host);
    host.lay("etc/shadow", "root:secret\n");
    plant(&host, "state_dir = \"/etc\"");
    let before = rest(&host);
    let run = host.agent(&["install", "--no-enrol"]).run();
    run.expect(0).says(&["dropped", "state_dir"]);
    let after = rest(&host);
    for file in &before {
        assert!(after.contains(file), "{:?} changed", file.0);
    }
    for (path, uid, ..) in after {
        assert_eq!(uid, 0, "{}", path.display());
    }
}

/// A1 and A6, without the take-over: no command of root's obeys such a file.
#[test]
fn no_command_obeys_a_file_of_another_user() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    host.lay(
        "var/lib/otherapp/state.json",
        "{\"a\":\"data of another program\"}",
    );
    host.lay("var/lib/otherapp/lock", "KEEP");
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

/// A6: files of another program that have the names of ours stay, whoever names the folder.
#[test]
fn only_files_of_our_format_are_removed() {
    let hub = TestHub::new();
    let host = TestHost::with_service_user();
    has_systemd(&host);
    let state_dir = ["--state-dir", "/var/lib/otherapp"];
    host.enrol_with(&hub, &hub.token(), &state_dir)
        .run()
        .expect(0);
    let foreign = "{\"a\":\"data of another program\"}";
    host.lay("var/lib/otherapp/heartbeat.json", foreign);
    host.lay(
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
    host.lay("var/lib/otherapp/state.json", foreign);
    host.lay("var/lib/otherapp/lock", "");
    let unenrol = [&["unenrol", "--force"][..], &state_dir].concat();
    host.agent(&unenrol).run().expect(0);
    let kept = fs::read_to_string(host.path("var/lib/otherapp/state.json")).unwrap();
    assert_eq!(kept, foreign);
}

/// A4 and A5: neither the hub, nor its CA, nor a proxy, nor a token, nor a fact comes from what another
/// user wrote, so nothing is sent.
#[test]
fn nothing_is_sent_where_another_user_says() {
    let hub = TestHub::new();
    let thief = TestHub::with(mock_hub::Options {
        http: true,
        ..mock_hub::Options::default()
    });
    let host = enrolled(&hub);
    let good = host.agent_toml();
    host.lay("root/secret", TOKEN);
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
    // Another hub, with the credential gone: the plainest way to a token.
    let text = format!("hub_url = '{}'\n", thief.url());
    fs::write(host.path(CONFIG), text).unwrap();
    chown(host.path(CONFIG), Some(SERVICE_USER), None).unwrap();
    expect_refused(host.agent(&["enrol"]).env("MONSYS_TOKEN", TOKEN).run());
    assert!(thief.agents().is_empty());
    assert_eq!((hub.agents().len(), hub.spent()), (1, 1));
}

/// Also where only a folder above is not root's, or a file that agent.toml names.
#[test]
fn each_file_that_decides_and_each_folder_above_it_counts() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    host.lay(
        "srv/ca.pem",
        &fs::read_to_string(hub.ca_file().unwrap()).unwrap(),
    );
    host.lay("srv/token", TOKEN);
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
        run.says(&["root does not trust", named.to_str().unwrap()]);
        chown(host.path(path), Some(there.uid()), None).unwrap();

        let mode = there.mode() & 0o7777;
        let open = fs::Permissions::from_mode(mode | 0o002);
        fs::set_permissions(host.path(path), open).unwrap();
        let run = host.agent(&["enrol", "--tag", "x"]).run().expect(78);
        run.says(&["chmod go-w", named.to_str().unwrap()]);
        fs::set_permissions(host.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    chown(host.path("srv/token"), Some(SERVICE_USER), None).unwrap();
    host.agent(&["enrol", "--force"])
        .run()
        .expect(78)
        .says(&["srv/token"]);
    assert_eq!((hub.agents().len(), hub.spent()), (1, 1));
}

/// A8, also where the kernel protects no hard links: the second name is made by root here, to stand for
/// that.
#[test]
fn a_lock_with_a_second_name_stops_nobody_and_is_not_written_to() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    host.lay("root/victim", "secret\n");
    fs::remove_file(host.path("var/lib/monsys/lock")).unwrap();
    fs::hard_link(host.path("root/victim"), host.path("var/lib/monsys/lock")).unwrap();
    host.agent(&["enrol", "--tag", "x"]).run().expect(0);
    let victim = host.path("root/victim");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "secret\n");
    assert_eq!(fs::metadata(&victim).unwrap().uid(), 0);
}

/// All that the service's user can write is `/run/monsys`: links, pipes, huge files and hostile notes
/// there change nothing, in any command of root's.
#[test]
fn what_the_service_can_write_is_data_of_a_stranger() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    has_systemd(&host);
    host.lay("etc/shadow", "root:secret\n");
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
            // No new token is given, and nobody has unpinned the key.
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
    // The last word is root's: what is there goes with the host's identity.
    symlink(&victim, &note).unwrap();
    host.agent(&["unenrol"]).run().expect(0);
    assert_eq!(rest(&host), before);
}

/// A volume's mount point is root's, empty, and open to all: nobody has put anything there yet.
#[test]
fn an_open_empty_mount_point_is_closed() {
    needs_root();
    let (hub, host) = (TestHub::new(), TestHost::new());
    let volume = host.path("var/lib/monsys");
    fs::create_dir_all(&volume).unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
    host.enrol(&hub, &hub.token()).run().expect(0);
    assert_eq!(host.mode("var/lib/monsys"), 0o700);
}

/// What an operator types counts; what is stored has to be a file that only root can write.
#[test]
fn a_ca_in_an_operators_home_is_copied() {
    let hub = TestHub::new();
    let host = TestHost::with_service_user();
    let text = fs::read_to_string(hub.ca_file().unwrap()).unwrap();
    let ca_file = host.lay("home/op/ca.pem", &text);
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
    // Nothing is refused from then on, also when the operator gives the file again or changes it.
    fs::write(&ca_file, "").unwrap();
    host.agent(&["status"]).run().expect(0);
    host.agent(&["enrol", "--tag", "x"]).run().expect(0);
    hub.expect_one_slot();
}

/// `RavenXcope`'s env file decides as agent.toml does, also where a link leads to it.
#[test]
fn an_env_file_of_another_user_is_not_obeyed() {
    use crate::common::ravenxcope::{FILE, agent, env_text, look, mint};
    let hub = TestHub::new();
    for is_link in [false, true] {
        let host = TestHost::with_service_user();
        let sensor = if is_link { "sensor-2" } else { "sensor-1" };
        let text = env_text(&hub, sensor, &mint(&hub, sensor));
        let file = if is_link { "srv/real.env" } else { FILE };
        let file = host.lay(file, &text);
        if is_link {
            fs::create_dir_all(host.path("etc/ravenxcope")).unwrap();
            symlink("/srv/real.env", host.path(FILE)).unwrap();
        }
        chown(&file, Some(SERVICE_USER), None).unwrap();
        for arguments in [&["enrol"][..], &["status"], &["facts"], &["run"]] {
            let run = agent(&host, &hub, arguments).run().expect(78);
            run.says(&["root does not trust", file.to_str().unwrap()]);
        }
        assert_eq!(look(&hub, sensor)["enrolments"], 0);
    }
}
