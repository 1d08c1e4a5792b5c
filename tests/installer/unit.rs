//! The unit: what systemd itself says of it.

use std::fs;
use std::process::Command;

const UNIT: &str = include_str!("../../packaging/systemd/monsys-agent.service");

/// The highest exposure that we allow ourselves.
const LIMIT: f64 = 1.3;

fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("usr/lib/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("monsys-agent.service"), UNIT).unwrap();
    root
}

#[test]
fn its_exposure_is_low() {
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
fn systemd_understands_every_line_of_it_and_of_the_drop_ins() {
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
    // It does notice.
    let broken = UNIT.replace("ProtectHome=yes", "ProtectHome=perhaps");
    fs::write(units.join("monsys-agent.service"), broken).unwrap();
    let said = verify().1;
    assert!(said.contains("perhaps"), "{said:?}");
}

#[test]
fn what_no_repetition_mends_is_not_repeated() {
    use agent_core::error::Kind;
    let line = UNIT
        .lines()
        .find_map(|line| line.strip_prefix("RestartPreventExitStatus="))
        .unwrap();
    let codes: Vec<u8> = line.split(' ').map(|code| code.parse().unwrap()).collect();
    for kind in Kind::ALL {
        // `Silent` is what `status` says of the service, and not how the service ends.
        let is_passing = matches!(
            kind,
            Kind::Unreachable | Kind::Io | Kind::Silent | Kind::StepNeeded
        );
        assert_eq!(codes.contains(&kind.exit_code()), !is_passing, "{kind:?}");
    }
    assert_eq!(codes.len(), Kind::ALL.len() - 4);
    // The service asks for the privileged step: the manager runs both again, and nothing failed.
    assert!(UNIT.contains("\nSuccessExitStatus=85\n"));
}
