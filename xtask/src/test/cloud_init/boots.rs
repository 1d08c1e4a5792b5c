//! First boots that go well, that fail where it shows, and that share their user data with others.

use std::fs;

use base64::Engine;
use serde_json::json;

use super::super::Count;
use super::{Scene, expect, filled_in};
use crate::cloud_config;
use crate::error::{Context, Result, Stop};
use crate::tools;

pub(super) async fn run(scene: &Scene, count: &mut Count) -> Result<()> {
    count.check("a composed template runs all parts", composed(scene).await);
    count.check("base64 and gzip", forms(scene).await);
    count.check(
        "a script survives parts that replace",
        replaced(scene).await,
    );
    count.check("an enrolled host keeps no token", nothing_left(scene).await);
    count.check("a refusal shows, and can be fixed", refused(scene).await);
    count.check("the zone is a tag where there is one", zones(scene).await);
    for (name, text, said) in [
        (
            "a portal's page",
            "<html>log in</html>\n",
            "is not a script",
        ),
        (
            "half an install.sh",
            "#!/bin/sh\nmain() {\n",
            "is incomplete",
        ),
    ] {
        count.check(name, not_run(scene, name, text, said).await);
    }
    count.check(
        "another install.sh than the pinned",
        wrong_checksum(scene).await,
    );
    count.check(
        "the checksum of this machine's binary",
        checksums(scene).await,
    );
    Ok(())
}

/// cloud-init/compose.yaml, filled in: both of the user's parts run, and the agent's between them.
async fn composed(scene: &Scene) -> Result<()> {
    let host = scene.host("composed")?;
    let path = tools::root()
        .join(cloud_config::FOLDER)
        .join("compose.yaml");
    let template = fs::read_to_string(path).context(|| "no compose.yaml".to_owned())?;
    let user_data = filled_in(&template, &scene.settings(&scene.token().await?, &host));
    let look = "cat /etc/motd /etc/issue && ls /run/before /run/after";
    let boot = scene.boot(&user_data, look).await?;
    host.agent_toml(&scene.hub)
        .map_err(|cause| Stop::failed(format!("{cause}\n{}", boot.told())))?;
    let parts = "yours, before\nyours, after\n/run/after\n/run/before\n";
    expect(
        boot.is_done() && boot.after == parts,
        &boot,
        "a part is lost",
    )
}

/// The three outputs are one document: a cloud undoes base64, and cloud-init itself gzip.
async fn forms(scene: &Scene) -> Result<()> {
    let host = scene.host("gzip")?;
    let inputs = scene.inputs(&scene.token().await?, &host.install_url, &json!({}))?;
    let made = scene.render(inputs).await?;
    let decoded = |text: &str| {
        let decoded = base64::engine::general_purpose::STANDARD.decode(text);
        decoded.context(|| "an output in base64".to_owned())
    };
    if decoded(&made.cloud_init_base64)? != made.cloud_init.as_bytes() {
        return Err(Stop::failed("cloud_init_base64 is another document"));
    }
    let boot = scene
        .boot(decoded(&made.cloud_init_gzip_base64)?, ":")
        .await?;
    let ok = boot.is_done() && host.agent_toml(&scene.hub).is_ok();
    expect(ok, &boot, "not enrolled")
}

/// Parts before and after that say nothing of merging: the last replaces the first, as cloud-init
/// does, and the agent's script runs all the same.
async fn replaced(scene: &Scene) -> Result<()> {
    let host = scene.host("replaced")?;
    let inputs = scene.inputs(&scene.token().await?, &host.install_url, &json!({}))?;
    let script = scene.render(inputs).await?.install_script;
    let theirs = |n| format!("#cloud-config\nruncmd: [[touch, /run/theirs-{n}]]\n");
    let archive = json!([
        {"type": "text/cloud-config", "content": theirs(1)},
        {"type": "text/x-shellscript", "content": script},
        {"type": "text/cloud-config", "content": theirs(2)},
    ]);
    let user_data = format!("#cloud-config-archive\n{archive}\n");
    let boot = scene.boot(&user_data, "ls /run/theirs-*").await?;
    let enrolled = host.agent_toml(&scene.hub).is_ok();
    let ok = enrolled && boot.is_done() && boot.after == "/run/theirs-2\n" && boot.left.is_empty();
    expect(ok, &boot, "not enrolled")
}

/// The user's own commands run after it, whatever their shape, and nothing of ours stays.
async fn nothing_left(scene: &Scene) -> Result<()> {
    let host = scene.host("nothing-left")?;
    let token = scene.token().await?;
    let more = json!({"extra_runcmd": ["echo said > /run/a", ["touch", "/run/b c"]],
        "extra_cloud_config": {"write_files": [{"path": "/etc/mine", "content": "mine\n"}]}});
    let inputs = scene.inputs(&token, &host.install_url, &more)?;
    let user_data = scene.render(inputs).await?.cloud_init;
    let look = format!(
        "cat /run/a /etc/mine; ls '/run/b c'; grep -rl {token} /etc /var/lib/monsys-boot \
         /var/lib/cloud/scripts /var/log/cloud-init-output.log"
    );
    let boot = scene.boot(&user_data, &look).await?;
    let said = boot.after.replace(
        "grep: /var/lib/monsys-boot: No such file or directory\n",
        "",
    );
    let ok = boot.is_done()
        && boot.left.is_empty()
        && host.agent_toml(&scene.hub).is_ok()
        // grep finds nothing, of which it complains with 2 as a folder is gone.
        && said == "said\nmine\n/run/b c\nexit 2\n";
    expect(
        ok,
        &boot,
        "something is left, or the user's part did not run",
    )
}

/// A token that the hub does not take: cloud-init says so although the user's commands end well,
/// the log has the reason, and the command that it names fixes it.
async fn refused(scene: &Scene) -> Result<()> {
    let host = scene.host("refused")?;
    let more = json!({"extra_runcmd": ["true"]});
    let inputs = scene.inputs("enrl_NobodyKnowsThisOne", &host.install_url, &more)?;
    let user_data = scene.render(inputs).await?.cloud_init;
    let again = format!(
        "stat -c '%a %n' /var/lib/monsys-boot /var/lib/monsys-boot/settings\n\
         sed -i 's/^MONSYS_TOKEN=.*/MONSYS_TOKEN={}/' /var/lib/monsys-boot/settings\n\
         sh /var/lib/monsys-boot/boot.sh && echo enrolled",
        scene.token().await?
    );
    let boot = scene.boot(&user_data, &again).await?;
    let told = boot.status.contains("status: error")
        && boot.status.contains("scripts-per-instance")
        && boot.output.contains("install.sh ended with 77")
        && boot
            .output
            .contains("then: sh /var/lib/monsys-boot/boot.sh")
        && !boot.output.contains("NobodyKnows")
        && boot.log.contains("config-scripts-user ran successfully");
    expect(told, &boot, "the refusal does not show")?;
    let closed = boot.after.starts_with("700 /var/lib/monsys-boot\n600 ");
    let fixed = boot.after.ends_with("enrolled\n") && boot.left.is_empty();
    expect(
        closed && fixed && host.agent_toml(&scene.hub).is_ok(),
        &boot,
        "not fixed",
    )
}

async fn zones(scene: &Scene) -> Result<()> {
    let token = scene.token().await?;
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
        let host = scene.host(name)?;
        let more = json!({"availability_zone_tag": true, "tags": ["asg", "{{ v1.region }}"]});
        let inputs = scene.inputs(&token, &host.install_url, &more)?;
        let user_data = scene.render(inputs).await?.cloud_init;
        let boot = scene
            .cloud_init
            .first_boot(&user_data, meta_data, None)
            .await?;
        let toml = host.agent_toml(&scene.hub).unwrap_or_default();
        expect(
            boot.is_done() && toml.contains(tags),
            &boot,
            &format!("{toml}\nhas not {tags}"),
        )?;
    }
    Ok(())
}

/// A file that is no install.sh is not run, and cloud-init says that it failed.
async fn not_run(scene: &Scene, name: &str, text: &str, said: &str) -> Result<()> {
    let url = scene.file(&name.replace([' ', '\''], "-"), text)?;
    let user_data = scene
        .render(scene.inputs("enrl_0123456789", &url, &json!({}))?)
        .await?
        .cloud_init;
    let boot = scene.boot(&user_data, ":").await?;
    let ok = boot.status.contains("status: error") && boot.output.contains(said);
    expect(ok, &boot, "not told")
}

async fn wrong_checksum(scene: &Scene) -> Result<()> {
    let url = scene.install_sh("changed", "echo it ran")?;
    let more = json!({"install_sha256": "0".repeat(64)});
    let user_data = scene
        .render(scene.inputs("enrl_0123456789", &url, &more)?)
        .await?
        .cloud_init;
    let boot = scene.boot(&user_data, ":").await?;
    let ok = boot.status.contains("status: error")
        && boot.output.contains("is pinned")
        && !boot.output.contains("it ran");
    expect(ok, &boot, "not told, or run")
}

/// install.sh gets the checksum for the machine it runs on, and the right one of itself passes.
async fn checksums(scene: &Scene) -> Result<()> {
    let url = scene.install_sh("checksums", "echo \"sum=$MONSYS_SHA256\"")?;
    let script = fs::read(url.trim_start_matches("file://")).unwrap_or_default();
    let sums = json!({"x86_64": "1".repeat(64), "aarch64": "2".repeat(64)});
    let more = json!({"checksums": sums, "install_sha256": sha256(&script)});
    let user_data = scene
        .render(scene.inputs("enrl_0123456789", &url, &more)?)
        .await?
        .cloud_init;
    let boot = scene.boot(&user_data, ":").await?;
    let own = sums[std::env::consts::ARCH]
        .as_str()
        .unwrap_or("no sum for this machine");
    let ok = boot.is_done() && boot.output.contains(&format!("sum={own}"));
    expect(ok, &boot, "another sum, or none")
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or_default();
    let bytes = digest.as_ref().iter();
    bytes
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}
