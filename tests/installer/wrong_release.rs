//! Downloads that fail, and releases that are not what install.sh expects: nothing is changed.

use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::release::{Release, VERSION, binary};
use crate::script::{http_mirror, only_busybox_wget, only_old_busybox_wget, piped};

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_failed_download_changes_nothing() {
    let fault = |extra: Value| {
        let mut fault = json!({"route": "dist", "times": 20});
        let extra = extra.as_object().unwrap().clone();
        fault.as_object_mut().unwrap().extend(extra);
        fault
    };
    for downloader in ["curl", "wget", "busybox", "old busybox"] {
        let mut cases = vec![
            (json!({"status": 404}), 69, "404"),
            (json!({"reset": "before"}), 69, "could not be downloaded"),
            (json!({"reset": "after"}), 69, "could not be downloaded"),
            (
                json!({"body": "<html>sign in</html>"}),
                76,
                "its SHA-256 is",
            ),
        ];
        let short = json!({"truncate_at": 4096});
        match downloader {
            // Its version decides whether it accepts a body that ends too early.
            "busybox" => {}
            "old busybox" => cases.push((short, 76, "its SHA-256 is")),
            _ => cases.push((short, 69, "could not be downloaded")),
        }
        for (what, code, message) in cases {
            let fixture = Fixture::new();
            let plain = http_mirror(&fixture.release);
            let (source, url) = match downloader {
                "busybox" => {
                    only_busybox_wget(&fixture.machine);
                    (&plain, format!("{}/dist", plain.url()))
                }
                "old busybox" => {
                    only_old_busybox_wget(&fixture.machine);
                    (&plain, format!("{}/dist", plain.url()))
                }
                _ => (&fixture.hub, String::new()),
            };
            if downloader == "wget" {
                fixture.machine.remove_program("curl");
            }
            source.fault(fault(what.clone()));
            let fixture = Fixture {
                before: fixture.machine.changes(),
                ..fixture
            };
            let run = fixture.install(&[("MONSYS_DOWNLOAD_URL", &url)]);
            println!("{downloader}, {what}: {}", run.code);
            fixture.expect_failed(run, code, &[message]);
        }
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_wrong_release_changes_nothing() {
    // install.sh of the repository has no release filled in.
    let fixture = Fixture::new();
    let raw = include_str!("../../packaging/install.sh");
    let variables = [("MONSYS_TOKEN", fixture.token.as_str())];
    let run = piped(&fixture.machine, &["sh"], raw, &variables);
    fixture.expect_failed(run, 69, &["no checksum", "MONSYS_SHA256"]);
    fixture.expect_failure(
        &[("MONSYS_VERSION", "9.9.9")],
        69,
        &["no checksum for monsys-agent-9.9.9-"],
    );
    fixture.expect_failure(
        &[("MONSYS_SHA256", &"0".repeat(64))],
        76,
        &["its SHA-256 is"],
    );
    fixture.expect_failure(
        &[("MONSYS_VERIFY", "strict")],
        69,
        &["needs minisign", "the key in this script: none"],
    );
    for value in ["Strict", "STRICT", "yes", "1", "true", "off", " strict"] {
        fixture.expect_failure(
            &[("MONSYS_VERIFY", value)],
            64,
            &["is not a valid value", "the values are strict and empty"],
        );
    }
    fixture.expect_failure(
        &[("MONSYS_DOWNLOAD_URL", "https://user:pass@127.0.0.1:1")],
        69,
        &["from https://127.0.0.1:1"],
    );
    let empty = [("MONSYS_DOWNLOAD_URL", "file:///srv/nothing")];
    fixture.expect_failure(&empty, 69, &["No such file"]);

    // Another version with its checksum.
    let old = format!("monsys-agent-0.0.9-linux-{}", std::env::consts::ARCH);
    std::fs::copy(fixture.release.path(&binary()), fixture.release.path(&old)).unwrap();
    let sums = std::fs::read_to_string(fixture.release.path("SHA256SUMS")).unwrap();
    let sum = sums.split(' ').next().unwrap().to_uppercase();
    fixture
        .install(&[("MONSYS_VERSION", "v0.0.9"), ("MONSYS_SHA256", &sum)])
        .expect(0)
        .expect_stderr(&["Downloading monsys-agent 0.0.9"]);

    // A release file that cannot run on this machine.
    let broken = Release::new();
    std::fs::write(broken.path(&binary()), "\x7fELF of another machine").unwrap();
    let output = std::process::Command::new("sha256sum")
        .arg(broken.path(&binary()))
        .output()
        .unwrap();
    let sum = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
    let fixture = Fixture::of(broken);
    fixture.expect_failure(
        &[("MONSYS_SHA256", &sum)],
        74,
        &["does not run on this host"],
    );
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn a_wrong_or_missing_signature_changes_nothing() {
    let strict = [("MONSYS_VERIFY", "strict")];
    let fixture = Fixture::of(Release::signed());
    // A signature by another key, a missing signature, and checksums changed after signing.
    let other = Release::signed();
    let signature = fixture.release.path("SHA256SUMS.minisig");
    let good = std::fs::read(&signature).unwrap();
    std::fs::copy(other.path("SHA256SUMS.minisig"), &signature).unwrap();
    fixture.expect_failure(&[], 76, &["the signature of", "is wrong"]);
    std::fs::remove_file(&signature).unwrap();
    fixture.expect_failure(&[], 69, &["SHA256SUMS.minisig could not be downloaded"]);
    std::fs::write(&signature, &good).unwrap();
    let sums = fixture.release.path("SHA256SUMS");
    let text = std::fs::read_to_string(&sums).unwrap();
    std::fs::write(&sums, text.replace(VERSION, "9.9.9")).unwrap();
    fixture.expect_failure(&[], 76, &["is wrong"]);
    std::fs::write(&sums, &text).unwrap();

    // Without minisign, the checksum decides, unless MONSYS_VERIFY=strict.
    let minisign = std::fs::read(fixture.machine.path("usr/bin/minisign")).unwrap();
    fixture.machine.remove_program("minisign");
    let mut fixture = fixture;
    fixture.before = fixture.machine.changes();
    fixture.expect_failure(
        &strict,
        69,
        &["MONSYS_VERIFY=strict needs minisign", "install minisign"],
    );
    fixture.install(&[]).expect(0);
    fixture.machine.program("usr/bin/minisign", minisign);
    fixture.install(&strict).expect(0);
    fixture.hub.expect_one_slot();
}
