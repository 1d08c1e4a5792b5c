//! The lines of the log, as the program writes them.

use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::common::{TestHost, program};

/// Returns each write to standard error of an enrolment at a port where nothing listens.
fn writes(more: &[&str]) -> Vec<String> {
    let host = TestHost::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", port.local_addr().unwrap());
    drop(port);
    let (ours, stderr) = packets();
    let mut child = Command::new(program())
        .args(["enrol", "--wait", "0s", "--hub-url", &url, "--root"])
        .arg(host.path(""))
        .args(more)
        .env_clear()
        .env("MONSYS_TOKEN", "enrl_secret1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let mut packets = std::fs::File::from(ours);
    let mut packet = vec![0; 1 << 16];
    let mut writes = Vec::new();
    loop {
        let length = packets.read(&mut packet).unwrap();
        if length == 0 {
            break;
        }
        writes.push(String::from_utf8(packet[..length].to_vec()).unwrap());
    }
    assert_eq!(child.wait().unwrap().code(), Some(69), "{writes:?}");
    // The last write is the error of the command.
    assert!(writes.pop().unwrap().starts_with("error: "));
    writes
}

/// Returns a socket on which one read returns one write to the other end.
fn packets() -> (OwnedFd, OwnedFd) {
    let flags = SockFlag::SOCK_CLOEXEC;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
}

#[test]
fn a_line_of_text_is_one_write_with_level_and_message() {
    let lines = writes(&[]);
    for line in &lines {
        assert!([" INFO ", " WARN "].contains(&&line[..6]), "{line}");
        assert_eq!(line.find('\n'), Some(line.len() - 1), "{line}");
    }
    let sending = |line: &String| line.starts_with(" INFO sending a request to https://");
    assert!(lines.iter().any(sending), "{lines:?}");
    assert_eq!(writes(&["-qq"]), [""; 0]);
}

#[test]
fn a_line_of_everything_names_its_target() {
    let lines = writes(&["-vv"]);
    let targets: Vec<&str> = lines
        .iter()
        .map(|line| {
            assert!(["ERROR ", " WARN ", " INFO ", "DEBUG ", "TRACE "].contains(&&line[..6]));
            line[6..].split_once(": ").unwrap().0
        })
        .collect();
    for target in [
        "agent_core::enrolment::attempt",
        "hyper_util::client::legacy::connect::http",
    ] {
        assert!(targets.contains(&target), "{targets:?}");
    }
}

#[test]
fn a_line_of_json_is_one_write_with_its_members_in_order() {
    let lines = writes(&["--log-format", "json"]);
    assert!(!lines.is_empty());
    for line in lines {
        let rest = line.strip_prefix(r#"{"timestamp":""#).unwrap();
        let (time, rest) = rest.split_once(r#"","level":""#).unwrap();
        assert_eq!(time.len(), "2026-01-01T00:00:00.000000Z".len());
        humantime::parse_rfc3339(time).unwrap();
        let (level, rest) = rest.split_once(r#"","message":""#).unwrap();
        assert!(["INFO", "WARN"].contains(&level), "{line}");
        let (_, target) = rest.rsplit_once(r#","target":""#).unwrap();
        assert!(
            target.starts_with("agent_core::") || target.starts_with("dialect_"),
            "{line}"
        );
        assert!(target.ends_with("\"}\n"), "{line}");
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
    }
}
