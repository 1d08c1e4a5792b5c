//! Real cloud-inits, the oldest and the newest, on hosts that enrolled with a token from their user data:
//! no copy of it stays, cloud-init's own commands work as on a host that was never scrubbed, and what a
//! later boot writes anew is scrubbed again.

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
use crate::search::holds;

/// Where cloud-init keeps what a host was given.
const PLACES: [&str; 3] = ["var/lib/cloud", "run/cloud-init", "var/log"];
const SEED: &str = "var/lib/cloud/seed/nocloud/user-data";

/// User data in a form.
type Form = fn(&str, &str) -> Vec<u8>;

/// As a person writes it: the token in a file, in a file in base64, and in a command.
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

/// A file with the token, in base64 of two lines.
fn encoded(token: &str) -> String {
    let file = BASE64_STANDARD.encode(format!("# for later\nMONSYS_TOKEN={token}\n"));
    let (first, second) = file.split_at(40);
    format!("{first}\n    {second}")
}

/// As Terraform's `cloudinit_config` makes it, once the cloud has undone base64: parts in gzip, one of
/// them encoded again as cloud-init's own `make-mime` does.
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

/// Lays the user data as the host's metadata service gives it at each boot.
fn lay(disk: &Disk, user_data: &[u8]) {
    fs::write(disk.path(SEED), user_data).unwrap();
}

/// The files of cloud-init's that hold the secret.
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
                if holds(&fs::read(path).unwrap(), secret) {
                    found.push(name.to_path_buf());
                }
            }
        });
    }
    assert!(read > 10, "only {read} files");
    found.sort();
    found
}

/// What cloud-init's own commands come to on a host.
struct Commands {
    status: Ran,
    user_data: Ran,
    all: Ran,
    logs: Vec<String>,
}

impl Commands {
    #[track_caller]
    fn run(host: &Machine<'_>) -> Self {
        // 20.4 knows no --format.
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
        host.must("cd /root && cloud-init collect-logs --tarfile logs.tgz --include-userdata");
        // The names of the folder and of some files have a time in them.
        let listed = host.must("tar -tzf /root/logs.tgz | sed 's,^[^/]*/,,' | sort");
        Self {
            status,
            user_data,
            all,
            logs: listed.lines().map(str::to_owned).collect(),
        }
    }

    /// The commands come to the same as on a host that was never scrubbed.
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
        // Packed user data is shown in base64, which differs in what scrubbing is for.
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

/// The keys of an object and of those within, without their values.
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
    // The second is the same host, never scrubbed.
    let [host, other] = [&disks[0], &disks[1]].map(|disk| lan.start(disk));
    let [host, other] = [host.up(), other.up()];
    for host in [&host, &other] {
        expect_done(host);
        expect_in_service(&hub, host);
    }
    assert_eq!((hub.agents().len(), hub.spent()), (2, 2));
    // Or the search would not find it.
    let unscrubbed = copies(&other, secret);
    assert!(
        unscrubbed.iter().any(|path| path == Path::new(SEED)),
        "{unscrubbed:?}"
    );
    assert!(unscrubbed.len() >= 4, "{unscrubbed:?}");
    let first_left = copies(&host, secret);

    // The metadata service gives the user data again, now in the other form, and without its cache
    // cloud-init writes its copies anew. It is the same instance, so nothing of them runs again.
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
        host.must("rm /var/lib/cloud/instance/obj.pkl");
    }
    other.must("echo 'scrub_cloud_init = \"no\"' >>/etc/monsys/agent.toml");
    let host = host.reboot();
    let other = other.reboot();
    let [own, others] = [&host, &other].map(Commands::run);
    own.expect_like(&others, secret);
    for host in [&host, &other] {
        expect_in_service(&hub, host);
    }
    let anew = other.path("var/lib/cloud/instances/iid-web-2-1/user-data.txt");
    assert!(
        fs::read(anew).unwrap() == second(&token, "'no'"),
        "{release}: not written anew"
    );
    let second_left = copies(&host, secret);
    for host in [&host, &other] {
        host.must("cloud-init clean --logs");
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
