//! The oldest and the newest cloud-init, on hosts that enrolled with a token from their user data: no copy of
//! the token stays, cloud-init's commands work as on a host without scrubbing, and files that a later boot
//! writes are scrubbed again.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::cloud_init::{expect_done, seed};
use crate::disk::{Disk, walk};
use crate::lan::Lan;
use crate::machine::{Machine, Ran};
use crate::one_liner::{ONE_LINER, expect_in_service, trust};
use crate::search::contains_secret;

/// Folders of cloud-init with the host's data.
const PLACES: [&str; 3] = ["var/lib/cloud", "run/cloud-init", "var/log"];
const SEED: &str = "var/lib/cloud/seed/nocloud/user-data";

/// User data in one format.
type Form = fn(&str, &str) -> Vec<u8>;

/// Hand-written: the token in a file, in a file in base64, and in a command.
fn plain(token: &str, scrub: &str) -> Vec<u8> {
    let file = encoded(token);
    format!(
        "#cloud-config\nwrite_files:\n- path: /root/monsys.env\n  content: |\n    MONSYS_TOKEN={token}\n\
         - path: /root/encoded\n  encoding: b64\n  content: |\n    {file}\nruncmd:\n\
         - [sh, -c, \"set -a; . /root/monsys.env; MONSYS_SCRUB_CLOUD_INIT={scrub}; {ONE_LINER}\"]\n\
         - \": {token}\"\n"
    )
    .into_bytes()
}

/// Returns a file with the token, in base64 of two lines.
fn encoded(token: &str) -> String {
    let file = BASE64_STANDARD.encode(format!("# for later\nMONSYS_TOKEN={token}\n"));
    let (first, second) = file.split_at(40);
    format!("{first}\n    {second}")
}

/// Made as Terraform's `cloudinit_config` does, after the cloud has decoded base64: parts in gzip, one of them
/// encoded again as cloud-init's `make-mime` does.
fn packed(token: &str, scrub: &str) -> Vec<u8> {
    let part = |kind: &str, encoding: &str, body: &str| {
        format!(
            "--MIMEBOUNDARY\r\nContent-Transfer-Encoding: {encoding}\r\nContent-Type: text/{kind}\r\n\
             Mime-Version: 1.0\r\n\r\n{body}\r\n"
        )
    };
    let config = format!(
        "#cloud-config\nwrite_files:\n- path: /root/monsys.env\n  content: \"MONSYS_TOKEN={token}\\n\"\n"
    );
    let script = format!(
        "#!/bin/sh\nset -a\n. /root/monsys.env\nMONSYS_SCRUB_CLOUD_INIT={scrub}\n: {token}\n{ONE_LINER}\n"
    );
    let script = BASE64_STANDARD.encode(script);
    let script: Vec<_> = script
        .as_bytes()
        .chunks(76)
        .map(String::from_utf8_lossy)
        .collect();
    let document = format!(
        "Content-Type: multipart/mixed; boundary=\"MIMEBOUNDARY\"\r\nMIME-Version: 1.0\r\n\r\n{}{}--MIMEBOUNDARY--\r\n",
        part("cloud-config", "7bit", &config),
        part("x-shellscript", "base64", &script.join("\r\n")),
    );
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(document.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Writes the user data that the host's metadata service returns at each boot.
fn lay(disk: &Disk, user_data: &[u8]) {
    fs::write(disk.path(SEED), user_data).unwrap();
}

/// Returns the files of cloud-init that contain the secret.
fn copies(host: &Machine<'_>, secret: &str) -> Vec<PathBuf> {
    let root = host.path("");
    let mut found = Vec::new();
    let mut read = 0;
    for place in PLACES {
        walk(&root.join(place), &mut |path, metadata| {
            let name = path.strip_prefix(&root).unwrap();
            let is_other =
                name.starts_with("var/log") && !name.to_string_lossy().contains("cloud-init");
            if metadata.is_file() && !is_other {
                read += 1;
                if contains_secret(&fs::read(path).unwrap(), secret) {
                    found.push(name.to_path_buf());
                }
            }
        });
    }
    assert!(read > 10, "only {read} files");
    found.sort();
    found
}

/// The output of cloud-init's commands on a host.
struct Commands {
    status: Ran,
    user_data: Ran,
    all: Ran,
    logs: Vec<String>,
}

impl Commands {
    #[track_caller]
    fn run(host: &Machine<'_>) -> Self {
        // 20.4 has no --format.
        let status = "cloud-init status --wait --format json || cloud-init status --wait --long";
        let has_format = host
            .run("cloud-init status --help")
            .stdout
            .contains("--format");
        let status = if has_format {
            status.split(" ||").next().unwrap()
        } else {
            "cloud-init status --wait --long"
        };
        let status = host.run(status);
        let user_data = host.run("cloud-init query userdata");
        let all = host.run("cloud-init query --all");
        host.run_ok("cd /root && cloud-init collect-logs --tarfile logs.tgz --include-userdata");
        // The names of the folder and of some files contain a time.
        let listed = host.run_ok("tar -tzf /root/logs.tgz | sed 's,^[^/]*/,,' | sort");
        Self {
            status,
            user_data,
            all,
            logs: listed.lines().map(str::to_owned).collect(),
        }
    }

    /// Checks that the output equals that of a host without scrubbing.
    #[track_caller]
    fn expect_like(&self, other: &Self, secret: &str) {
        for (own, other) in [
            (&self.status, &other.status),
            (&self.user_data, &other.user_data),
            (&self.all, &other.all),
        ] {
            assert_eq!(
                (own.code, own.stderr.as_str()),
                (other.code, other.stderr.as_str())
            );
        }
        assert_eq!(self.logs, other.logs);
        // Compressed user data is shown in base64, which differs by the scrubbed token.
        let plain = |ran: &Ran| {
            let blank = "x".repeat(secret.len());
            let [file, blank_file] =
                [secret, &blank].map(|secret| encoded(&format!("enrl_{secret}")));
            let text = ran
                .stdout
                .replace(secret, &blank)
                .replace(&file, &blank_file);
            let is_plain = text.starts_with("#cloud-config");
            is_plain.then(|| text.replace("'no'", "auto"))
        };
        assert_eq!(plain(&self.user_data), plain(&other.user_data));
        assert!(self.user_data.stdout.len() > 100);
        let keys = |ran: &Ran| shape(&serde_json::from_str(&ran.stdout).unwrap());
        assert_eq!(keys(&self.all), keys(&other.all));
    }
}

/// Returns the keys of an object and its nested objects, without values.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), shape(value)))
            .collect(),
        _ => Value::Null,
    }
}

fn scrubbed_on(release: &str, first: Form, second: Form) {
    let lan = Lan::new();
    let hub = lan.hub();
    let token = hub.token();
    let secret = token.strip_prefix("enrl_").unwrap();
    let disks = ["web-1", "web-2"].map(|name| Disk::with_cloud_init(release, name));
    for (disk, scrub) in disks.iter().zip(["auto", "'no'"]) {
        trust(&hub, disk);
        seed(disk, "");
        lay(disk, &first(&token, scrub));
    }
    // The second host is the same without scrubbing.
    let [host, other] = [&disks[0], &disks[1]].map(|disk| lan.start(disk));
    let [host, other] = [host.up(), other.up()];
    for host in [&host, &other] {
        expect_done(host);
        expect_in_service(&hub, host);
    }
    assert_eq!((hub.agents().len(), hub.spent()), (2, 2));
    // The search must find the token before the scrub.
    let unscrubbed = copies(&other, secret);
    assert!(
        unscrubbed.iter().any(|path| path == Path::new(SEED)),
        "{unscrubbed:?}"
    );
    assert!(unscrubbed.len() >= 4, "{unscrubbed:?}");
    let first_left = copies(&host, secret);

    // The metadata service returns the user data in the other format, and without its cache cloud-init writes
    // its copies again. It is the same instance, so cloud-init does not run them again.
    let asked =
        [&host, &other].map(|host| host.run("cat /run/cloud-init/result.json").expect(0).stdout);
    assert_eq!(
        asked[0].contains("\"errors\": []"),
        asked[1].contains("\"errors\": []")
    );
    for (disk, scrub) in disks.iter().zip(["auto", "'no'"]) {
        lay(disk, &second(&token, scrub));
    }
    for host in [&host, &other] {
        host.run_ok("rm /var/lib/cloud/instance/obj.pkl");
    }
    other.run_ok("echo 'scrub_cloud_init = \"no\"' >>/etc/monsys/agent.toml");
    let host = host.reboot();
    let other = other.reboot();
    let [own, others] = [&host, &other].map(Commands::run);
    own.expect_like(&others, secret);
    for host in [&host, &other] {
        expect_in_service(&hub, host);
    }
    let copy = other.path("var/lib/cloud/instances/iid-web-2-1/user-data.txt");
    assert!(
        fs::read(copy).unwrap() == second(&token, "'no'"),
        "{release}: not written again"
    );
    let second_left = copies(&host, secret);
    for host in [&host, &other] {
        host.run_ok("cloud-init clean --logs");
        assert!(!host.disk.exists("var/lib/cloud/instances"));
    }
    let none = Vec::<PathBuf>::new();
    assert_eq!(first_left, none, "{release}, first boot");
    assert_eq!(second_left, none, "{release}, second boot");
}

#[test]
fn the_oldest_cloud_init_keeps_no_copy_of_the_token() {
    scrubbed_on("bullseye", plain, packed);
}

#[test]
fn the_newest_cloud_init_keeps_no_copy_of_the_token() {
    scrubbed_on("forky", packed, plain);
}
