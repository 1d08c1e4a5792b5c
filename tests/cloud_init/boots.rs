//! First boots that go well, that fail visibly, and that share their user data with others.

use std::fs;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::boot::Boot;
use crate::scene::{Scene, UNKNOWN, filled_in};
use crate::templates::template;

/// cloud-init/compose.yaml, filled in: both of the user's parts run, and the agent's between them.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_composed_template_runs_all_parts() {
    let scene = Scene::new();
    let host = scene.host("composed");
    let settings = scene.settings(&scene.token(), &host);
    let user_data = filled_in(&template("compose.yaml"), &settings);
    let look = "cat /etc/motd /etc/issue && ls /run/before /run/after";
    let boot = Boot::of(&user_data, look);
    boot.expect(host.is_enrolled(), "not enrolled");
    let parts = "yours, before\nyours, after\n/run/after\n/run/before\n";
    boot.expect(boot.is_done() && boot.after == parts, "a part is lost");
}

/// The three outputs are one document: a cloud undoes base64, and cloud-init itself gzip.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn base64_and_gzip_are_the_same_document() {
    let scene = Scene::new();
    let host = scene.host("gzip");
    let inputs = scene.inputs(&scene.token(), &host.install_url, &json!({}));
    let rendered = scene.terraform.render_one(inputs);
    let decoded = |text: &str| BASE64_STANDARD.decode(text).unwrap();
    let document = decoded(&rendered.cloud_init_base64);
    assert!(document == rendered.cloud_init.as_bytes());
    let boot = Boot::of(decoded(&rendered.cloud_init_gzip_base64), ":");
    boot.expect(boot.is_done() && host.is_enrolled(), "not enrolled");
}

/// Parts before and after that do not merge: the last replaces the first, as cloud-init does, and the
/// agent's script runs all the same.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_script_survives_parts_that_replace() {
    let scene = Scene::new();
    let host = scene.host("replaced");
    let script = scene.script(&scene.token(), &host.install_url, &json!({}));
    let theirs = |n| format!("#cloud-config\nruncmd: [[touch, /run/theirs-{n}]]\n");
    let archive = json!([
        {"type": "text/cloud-config", "content": theirs(1)},
        {"type": "text/x-shellscript", "content": script},
        {"type": "text/cloud-config", "content": theirs(2)},
    ]);
    let user_data = format!("#cloud-config-archive\n{archive}\n");
    let boot = Boot::of(&user_data, "ls /run/theirs-*");
    let ok = host.is_enrolled()
        && boot.is_done()
        && boot.after == "/run/theirs-2\n"
        && boot.left.is_empty();
    boot.expect(ok, "not enrolled");
}

/// The user's own commands run after it, whatever their shape, and nothing of ours stays.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn an_enrolled_host_keeps_no_token() {
    let scene = Scene::new();
    let host = scene.host("nothing-left");
    let token = scene.token();
    let more = json!({"extra_runcmd": ["echo said > /run/a", ["touch", "/run/b c"]],
        "extra_cloud_config": {"write_files": [{"path": "/etc/mine", "content": "mine\n"}]}});
    let look = format!(
        "cat /run/a /etc/mine; ls '/run/b c'; grep -rl {token} /etc /var/lib/monsys-boot \
         /var/lib/cloud/scripts /var/log/cloud-init-output.log"
    );
    let boot = scene.boot(&token, &host.install_url, &more, &look);
    let missing = "grep: /var/lib/monsys-boot: No such file or directory\n";
    let ok = boot.is_done()
        && boot.left.is_empty()
        && host.is_enrolled()
        // grep finds nothing, and exits with 2 as a folder is gone.
        && boot.after.replace(missing, "") == "said\nmine\n/run/b c\nexit 2\n";
    boot.expect(ok, "something is left, or the user's part did not run");
}

/// A token that the hub rejects: cloud-init reports it although the user's commands end well, the log
/// has the cause, and the command that it names fixes it.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_rejected_token_is_reported_and_can_be_fixed() {
    let scene = Scene::new();
    let host = scene.host("refused");
    let more = json!({"extra_runcmd": ["true"]});
    let again = format!(
        "stat -c '%a %n' /var/lib/monsys-boot /var/lib/monsys-boot/settings\n\
         sed -i 's/^MONSYS_TOKEN=.*/MONSYS_TOKEN={}/' /var/lib/monsys-boot/settings\n\
         sh /var/lib/monsys-boot/boot.sh && echo enrolled",
        scene.token()
    );
    let boot = scene.boot("enrl_NobodyKnowsThisOne", &host.install_url, &more, &again);
    let is_reported = boot.is_failed()
        && boot.status.contains("scripts-per-boot")
        && boot.output.contains("install.sh ended with 77")
        && boot
            .output
            .contains("then: sh /var/lib/monsys-boot/boot.sh")
        && !boot.output.contains("NobodyKnows")
        && boot.log.contains("config-scripts-user ran successfully");
    boot.expect(is_reported, "the refusal is not reported");
    let is_closed = boot.after.starts_with("700 /var/lib/monsys-boot\n600 ");
    let is_fixed = boot.after.ends_with("enrolled\n") && boot.left.is_empty();
    boot.expect(is_closed && is_fixed && host.is_enrolled(), "not fixed");
}

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn the_zone_is_a_tag_where_there_is_one() {
    let scene = Scene::new();
    let token = scene.token();
    for (name, meta_data, tags) in [
        (
            "zone",
            "instance-id: i-1\navailability-zone: eu-west-1a\n",
            r#"tags = ["prod", "eu-west", "web", "asg", "{{ v1.region }}", "eu-west-1a"]"#,
        ),
        (
            "no-zone",
            "instance-id: i-1\n",
            r#"tags = ["prod", "eu-west", "web", "asg", "{{ v1.region }}"]"#,
        ),
    ] {
        let host = scene.host(name);
        let more = json!({"availability_zone_tag": true, "tags": ["asg", "{{ v1.region }}"]});
        let inputs = scene.inputs(&token, &host.install_url, &more);
        let user_data = scene.terraform.render_one(inputs).cloud_init;
        let boot = Boot::with_meta_data(&user_data, meta_data, "");
        let toml = host.agent_toml(&scene.hub);
        let ok = boot.is_done() && toml.contains(tags);
        boot.expect(ok, &format!("{toml}\nhas not {tags}"));
    }
}

/// A file that is not an install.sh is not run, and cloud-init reports the failure.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_portals_page_or_half_a_script_is_not_run() {
    let scene = Scene::new();
    for (name, text, message) in [
        ("portal", "<html>log in</html>\n", "is not a script"),
        ("half", "#!/bin/sh\nmain() {\n", "is incomplete"),
    ] {
        let url = scene.file(name, text);
        let boot = scene.boot(UNKNOWN, &url, &json!({}), ":");
        let ok = boot.is_failed() && boot.output.contains(message);
        boot.expect(ok, "not reported");
    }
}

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn another_install_sh_than_the_pinned_is_not_run() {
    let scene = Scene::new();
    let url = scene.install_sh("changed", "echo it ran");
    let more = json!({"install_sha256": "0".repeat(64)});
    let boot = scene.boot(UNKNOWN, &url, &more, ":");
    let ok =
        boot.is_failed() && boot.output.contains("is pinned") && !boot.output.contains("it ran");
    boot.expect(ok, "not reported, or run");
}

/// install.sh gets the checksum for the machine it runs on, and the right one of itself passes.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn the_checksum_is_that_of_this_machines_binary() {
    let scene = Scene::new();
    let url = scene.install_sh("checksums", "echo \"sum=$MONSYS_SHA256\"");
    let script = fs::read(url.trim_start_matches("file://")).unwrap();
    let sums = json!({"x86_64": "1".repeat(64), "aarch64": "2".repeat(64)});
    let more = json!({"checksums": sums, "install_sha256": sha256(&script)});
    let boot = scene.boot(UNKNOWN, &url, &more, ":");
    let own = sums[std::env::consts::ARCH].as_str().unwrap();
    let ok = boot.is_done() && boot.output.contains(&format!("sum={own}"));
    boot.expect(ok, "another sum, or none");
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let bytes = digest.as_ref().iter();
    bytes.fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}
