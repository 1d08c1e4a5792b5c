//! Enrolments by the privileged step (`prepare`), or by one command that drops its privileges.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::common::{SERVICE_USER, Service, TestHost, TestHub, needs_root, until};
use crate::privilege::{enrolled, expect_owned, has_heartbeat};

#[test]
#[ignore = "needs root: gives files to other users"]
fn the_step_enrols_a_prepared_image_and_the_service_never_gets_the_token() {
    let hub = TestHub::new();
    let host = TestHost::with_service_user();
    let token = hub.token();
    host.enrol_with(&hub, "", &["--defer"]).run().expect(0);
    let report = host
        .agent(&["prepare", "--output", "json"])
        .env("MONSYS_TOKEN", &token)
        .run()
        .expect(0);
    assert_eq!(report.json()["result"], "ready");
    expect_owned(&host);
    let service = host.unprivileged_service();
    until("a heartbeat", || has_heartbeat(&hub));
    service.stop().expect(0);
    hub.expect_one_slot();
    for (path, bytes) in host.files("") {
        let has_token = bytes
            .windows(token.len())
            .any(|part| part == token.as_bytes());
        assert!(!has_token, "{}", path.display());
    }
}

/// If one user runs everything, `run` does the step itself and re-executes itself.
#[test]
#[ignore = "needs root: reads the memory of a process that is not dumpable"]
fn a_container_enrols_and_clears_the_token_from_memory() {
    needs_root();
    let hub = TestHub::new();
    let host = TestHost::new();
    let token = hub.token();
    host.enrol_with(&hub, "", &["--defer"]).run().expect(0);
    let service = Service::of(host.agent(&["run"]).env("MONSYS_TOKEN", &token));
    until("a heartbeat", || has_heartbeat(&hub));
    let process = Path::new("/proc").join(service.id().to_string());
    let environment = fs::read(process.join("environ")).unwrap();
    let has_token = |bytes: &[u8]| {
        bytes
            .windows(token.len())
            .any(|part| part == token.as_bytes())
    };
    assert!(!has_token(&environment));
    let arguments = fs::read(process.join("cmdline")).unwrap();
    assert!(String::from_utf8_lossy(&arguments).contains("--prepared"));
    // Its memory as well, as far as the kernel lets root read it.
    let maps = fs::read_to_string(process.join("maps")).unwrap();
    let memory = fs::File::open(process.join("mem")).unwrap();
    let mut searched = 0;
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) = (
            u64::from_str_radix(from, 16).unwrap(),
            u64::from_str_radix(to, 16).unwrap(),
        );
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        if std::os::unix::fs::FileExt::read_exact_at(&memory, &mut bytes, from).is_ok() {
            assert!(!has_token(&bytes), "{line}");
            searched += 1;
        }
    }
    assert!(searched > 2, "{maps}");
    service.signal(Signal::SIGTERM);
    service.end().expect(0);
    hub.expect_one_slot();
}

/// As in `OpenRC`: one command, which drops its privileges.
#[test]
#[ignore = "needs root: gives files to other users"]
fn one_command_runs_the_step_as_root_and_the_service_as_its_user() {
    let hub = TestHub::new();
    let host = enrolled(&hub);
    let service = Service::of(host.agent(&["run", "--user", "monsys"]));
    until("a heartbeat", || has_heartbeat(&hub));
    let process = Path::new("/proc").join(service.id().to_string());
    let status = fs::read_to_string(process.join("status")).unwrap();
    let numbers = |name: &str| -> Vec<String> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    for name in ["Uid:", "Gid:"] {
        assert_eq!(numbers(name), vec![SERVICE_USER.to_string(); 4], "{name}");
    }
    assert_eq!(numbers("Groups:"), Vec::<String>::new());
    service.stop().expect(0);
    host.agent(&["run", "--user", "nobody-here"])
        .run()
        .expect(64)
        .expect_stderr(&["nobody-here"]);
}
