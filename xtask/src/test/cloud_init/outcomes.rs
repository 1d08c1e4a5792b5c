//! First boots whose enrolment ends with another code than 0 on a host that is enrolled: the boot script
//! finishes its work, and only then reports what was left undone.

use std::fs;

use serde_json::json;

use super::super::Count;
use super::{Scene, expect};
use crate::error::{Context, Result};

pub(super) async fn run(scene: &Scene, count: &mut Count) {
    count.check(
        "enrolled, but a copy of the token is on a read-only disk",
        left_behind(scene).await,
    );
    count.check("74 of a host that is not enrolled", failed(scene).await);
    count.check(
        "enrolled before, not confirmed now",
        unconfirmed(scene).await,
    );
    count.check(
        "install_script on an enrolled host whose hub is away",
        away(scene).await,
    );
}

/// The real agent finds the token where nobody can write: settings, script and hook are gone, and
/// cloud-init reports the agent's 74.
async fn left_behind(scene: &Scene) -> Result<()> {
    let host = scene.host("left-behind")?;
    let (agent, root) = (scene.agent.display(), host.root.display());
    let install = format!(
        "seed={root}/var/lib/cloud/seed/nocloud\n\
         mkdir -p $seed /var/opt/monsys/bin\n\
         mount -t tmpfs tmpfs $seed\n\
         echo \"MONSYS_TOKEN=$MONSYS_TOKEN\" >$seed/user-data\n\
         mount -o remount,ro $seed\n\
         printf '#!/bin/sh\\nexec {agent} \"$@\" --root {root}\\n' >/var/opt/monsys/bin/monsys-agent\n\
         chmod 755 /var/opt/monsys/bin/monsys-agent\n\
         exec {agent} enrol --root {root} --scrub-cloud-init yes \"$@\""
    );
    let url = scene.install_sh("left-behind", &install)?;
    let token = scene.token().await?;
    let more = json!({"extra_runcmd": ["echo said > /run/a"]});
    let user_data = scene
        .render(scene.inputs(&token, &url, &more)?)
        .await?
        .cloud_init;
    let look = "cat /run/a; ls /var/lib/monsys-boot 2>&1 | head -n 1; /var/opt/monsys/bin/monsys-agent status";
    let boot = scene.boot(&user_data, look).await?;
    let ok = boot.status.contains("status: error")
        && boot.status.contains("scripts-per-instance")
        && boot.output.contains("seed/nocloud/user-data")
        && boot
            .output
            .contains("this host is enrolled, but install.sh ended with 74")
        && !boot.output.contains("not enrolled")
        && !boot.output.contains(&token)
        && boot.left.is_empty()
        && boot.after.starts_with("said\nls: cannot access")
        && host.agent_toml(&scene.hub).is_ok();
    expect(ok, &boot, "not finished, or not reported")
}

/// The same code of a run that never came as far as the hub: all stays for the next try.
async fn failed(scene: &Scene) -> Result<()> {
    let url = scene.install_sh("failed", "exit 74")?;
    let user_data = scene
        .render(scene.inputs("enrl_0123456789", &url, &json!({}))?)
        .await?
        .cloud_init;
    let boot = scene.boot(&user_data, ":").await?;
    let ok = boot.status.contains("status: error")
        && boot.output.contains("this host is not enrolled")
        && boot.output.contains("install.sh ended with 74")
        && boot.left.contains("/var/lib/monsys-boot/settings");
    expect(ok, &boot, "taken for an enrolled host")
}

async fn unconfirmed(scene: &Scene) -> Result<()> {
    let url = scene.install_sh("unconfirmed", "exit 75")?;
    let user_data = scene
        .render(scene.inputs("enrl_0123456789", &url, &json!({}))?)
        .await?
        .cloud_init;
    let boot = scene.boot(&user_data, ":").await?;
    let ok = boot.is_done()
        && boot.output.contains("this host was enrolled before")
        && boot.left.is_empty();
    expect(ok, &boot, "not accepted, or not reported")
}

/// At each boot of such a host the script does nothing, and lays no token.
async fn away(scene: &Scene) -> Result<()> {
    let url = scene.install_sh("away", "echo it ran")?;
    let script = scene
        .render(scene.inputs("enrl_0123456789", &url, &json!({}))?)
        .await?
        .install_script;
    let path = scene.folder.path().join("away.sh");
    fs::write(&path, script.unwrap_or_default()).context(|| "a script".to_owned())?;
    let look = format!(
        "mkdir /run/bin; export PATH=/run/bin:$PATH\n\
         for code in 0 75 78; do\n\
         printf '#!/bin/sh\\nexit %s\\n' $code >/run/bin/monsys-agent; chmod 755 /run/bin/monsys-agent\n\
         sh {}; echo \"$code: $?\"; [ ! -e /var/lib/monsys-boot ] || echo laid; done",
        path.display()
    );
    let boot = scene.boot("#cloud-config\n{}\n", &look).await?;
    let ok = boot.after.trim() == "0: 0\n75: 0\nit ran\n78: 0";
    expect(ok, &boot, "not left alone")
}
