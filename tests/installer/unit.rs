//! The unit, checked by systemd-analyze(1).

use std::fs;
use std::process::Command;

const UNIT: &str = include_str!("../../packaging/systemd/monsys-agent.service");

/// The highest exposure that is allowed.
const LIMIT: f64 = 1.3;

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("usr/lib/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("monsys-agent.service"), UNIT).unwrap();
    root
}

#[test]
fn the_exposure_of_the_unit_is_low() {
    let root = root();
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(format!("--root={}", root.path().display()))
        .arg("monsys-agent.service")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text
        .lines()
        .find(|line| line.contains("Overall exposure level"));
    let line = line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    let score = line.split_once(": ").unwrap().1.split(' ').next().unwrap();
    println!("exposure {score}");
    assert!(score.parse::<f64>().unwrap() <= LIMIT, "{text}");
}

#[test]
fn systemd_accepts_every_line_of_the_unit() {
    let root = root();
    let units = root.path().join("usr/lib/systemd/system");
    for target in [
        "sysinit",
        "basic",
        "shutdown",
        "multi-user",
        "network-online",
        "nss-lookup",
        "time-sync",
    ] {
        fs::write(
            units.join(format!("{target}.target")),
            "[Unit]\nDescription=x\n",
        )
        .unwrap();
    }
    for name in ["usr/bin/monsys-agent", "bin/sh"] {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy("/bin/true", path).unwrap();
    }
    let verify = || {
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(format!("--root={}", root.path().display()))
            .arg("monsys-agent.service")
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(verify(), (true, String::new()));
    // systemd-analyze does notice a wrong value.
    let broken = UNIT.replace("ProtectHome=yes", "ProtectHome=perhaps");
    fs::write(units.join("monsys-agent.service"), broken).unwrap();
    let stderr = verify().1;
    assert!(stderr.contains("perhaps"), "{stderr:?}");
}

/// A second line adds to the first, or replaces it: each reader has to know which.
#[test]
fn no_setting_of_the_unit_is_written_twice() {
    let settings = UNIT
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0));
    let settings: Vec<_> = settings.filter(|name| !name.starts_with('#')).collect();
    for name in &settings {
        let count = settings.iter().filter(|other| *other == name).count();
        // A list of what is allowed, and a list of exceptions.
        let allowed = if *name == "SystemCallFilter" { 2 } else { 1 };
        assert_eq!(count, allowed, "{name}");
    }
}

#[test]
fn permanent_failures_are_not_restarted() {
    use agent_core::error::Kind;
    let line = UNIT
        .lines()
        .find_map(|line| line.strip_prefix("RestartPreventExitStatus="))
        .unwrap();
    let codes: Vec<u8> = line.split(' ').map(|code| code.parse().unwrap()).collect();
    for kind in Kind::ALL {
        // `Silent` is a finding of `status`, not an exit of the service.
        let is_passing = matches!(
            kind,
            Kind::Unreachable | Kind::Io | Kind::Temporary | Kind::StepNeeded
        );
        assert_eq!(codes.contains(&kind.exit_code()), !is_passing, "{kind:?}");
    }
    assert_eq!(codes.len(), Kind::ALL.len() - 4);
    // 85 requests the privileged step: the manager runs both again, and that is not a failure. 86 is a host that
    // is not enrolled.
    assert!(UNIT.contains("\nSuccessExitStatus=85 86\n"));
}
