//! The documented commands, run unchanged.

use std::fs;
use std::path::Path;

use crate::machine::{Machine, run};
use crate::release::Release;
use crate::script::mirror;

const MARK: &str = "<!-- tested -->\n```sh\n";

fn commands(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = fs::read_to_string(path).unwrap();
    text.split(MARK)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn every_documented_command_installs_and_enrols() {
    let shown = [commands("docs/install.md"), commands("README.md")];
    assert!(shown[0].len() >= 9 && !shown[1].is_empty(), "{shown:?}");
    let release = Release::new();
    for command in shown.concat() {
        let machine = Machine::new();
        let hub = mirror(&release, &machine);
        let token = hub.token();
        // The host trusts the hub's CA, as it trusts that of get.monsys.ai.
        let ca = fs::read(hub.ca_file().unwrap()).unwrap();
        let store = machine.path("etc/ssl/certs/ca-certificates.crt");
        let mut all = fs::read(&store).unwrap();
        all.extend(&ca);
        fs::write(&store, all).unwrap();
        machine.write_file("tmp/hub-ca.pem", &ca);
        machine.write_file("run/secrets/monsys-token", &token);
        for name in ["install.sh", &crate::release::binary()] {
            machine.write_file(
                &format!("mnt/release/{name}"),
                fs::read(release.path(name)).unwrap(),
            );
        }
        let script = command
            .replace("https://get.monsys.ai", &hub.url())
            .replace("https://hub.example.com", &hub.url())
            .replace("enrl_…", &token);
        assert_ne!(script, command);
        let mut shell = machine.command(&["sh"]);
        shell.args(["-e", "-c", &script]);
        println!("{command}");
        run(shell).expect(0);
        hub.expect_one_slot();
        assert!(machine.path("run/up").exists());
    }
}

/// An impostor of the mirror cannot make a command run a script that came without TLS.
#[test]
#[ignore = "needs root: mounts an overlay"]
fn no_documented_command_follows_a_redirect_to_http() {
    let shown = [commands("docs/install.md"), commands("README.md")].concat();
    let release = Release::new();
    let marker = "#!/bin/sh\nDEFAULT_DOWNLOAD_URL=''\nDEFAULT_HUB_URL=''\ntouch /run/without-tls\n";
    let elsewhere = Release::new();
    fs::write(elsewhere.path("install.sh"), marker).unwrap();
    let elsewhere = crate::script::http_mirror(&elsewhere);
    let mut count = 0;
    for command in shown {
        if !command.contains("https://get.monsys.ai") && !command.contains("--cacert") {
            continue; // This command downloads no script.
        }
        let machine = Machine::new();
        let hub = mirror(&release, &machine);
        hub.fault(serde_json::json!({
            "route": "install",
            "times": 9,
            "status": 302,
            "location": format!("{}/install.sh", elsewhere.url()),
        }));
        let ca = fs::read(hub.ca_file().unwrap()).unwrap();
        let store = machine.path("etc/ssl/certs/ca-certificates.crt");
        let all = [fs::read(&store).unwrap(), ca.clone()].concat();
        fs::write(&store, all).unwrap();
        machine.write_file("tmp/hub-ca.pem", &ca);
        let script = command
            .replace("https://get.monsys.ai", &hub.url())
            .replace("https://hub.example.com", &hub.url())
            .replace("enrl_…", &hub.token());
        println!("{command}");
        run(machine.command(&["sh", "-e", "-c", &script]));
        assert!(!machine.path("run/without-tls").exists());
        assert!(hub.agents().is_empty());
        count += 1;
    }
    assert!(count >= 8, "{count}");
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_missing_installer_fails_in_the_two_step_command() {
    let release = Release::new();
    let machine = Machine::new();
    let hub = mirror(&release, &machine);
    fs::remove_file(release.path("install.sh")).unwrap();
    let command = commands("docs/install.md")
        .into_iter()
        .find(|command| command.contains("-o install.sh"))
        .unwrap();
    let script = command
        .replace("https://get.monsys.ai", &hub.url())
        .replace("curl ", "curl --cacert /etc/ssl/hub-ca.pem ");
    let before = machine.changes();
    let mut shell = machine.command(&["sh"]);
    shell.args(["-e", "-c", &script]);
    run(shell).expect(22);
    assert_eq!(machine.changes(), before);
}
