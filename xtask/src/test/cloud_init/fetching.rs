//! How the boot script gets install.sh: with each program that a host may have, over TLS with a CA
//! of one's own, late, and not at all.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::super::Count;
use super::server::Server;
use super::{Scene, expect};
use crate::cloud_init::Boot;
use crate::error::{Context, Result, Stop};
use crate::{process, tools};

/// All that the scripts use but what fetches.
const TOOLS: [&str; 17] = [
    "cat",
    "chmod",
    "cut",
    "dd",
    "dirname",
    "env",
    "grep",
    "head",
    "mkdir",
    "rm",
    "sed",
    "sh",
    "sha256sum",
    "sleep",
    "tail",
    "uname",
    "wc",
];

pub(super) async fn run(scene: &Scene, count: &mut Count) -> Result<()> {
    let missing: Vec<_> = ["curl", "wget"]
        .into_iter()
        .filter(|program| find(program).is_err())
        .collect();
    if !missing.is_empty() {
        tools::apt(&missing).await?;
    }
    let dist = scene.folder.path().join("dist");
    let server = Server::start(scene, &dist, "").await?;
    for program in ["curl", "wget", "python3"] {
        count.check(program, fetched(scene, &server, program).await);
    }
    count.check("a mirror that is late", late(scene, &server).await);
    count.check("a file that is not there", absent(scene, &server).await);
    count.check(
        "a mirror that nobody vouches for",
        stranger(scene, &server).await,
    );
    count.check(
        "no redirect to http",
        no_redirect_to_http(scene, &server).await,
    );
    count.check(
        "a redirect to https",
        redirect_to_https(scene, &server).await,
    );
    count.check("a pipe as install.sh", pipe(scene).await);
    count.check(
        "a host that can fetch nothing",
        nothing_fetches(scene, &server).await,
    );
    Ok(())
}

/// Runs `install_script` on a host with these programs and no other.
async fn on_host(scene: &Scene, inputs: Value, programs: &[&str]) -> Result<Boot> {
    let script = scene.render(inputs).await?.install_script;
    run_script(scene, &script.unwrap_or_default(), programs).await
}

async fn run_script(scene: &Scene, script: &str, programs: &[&str]) -> Result<Boot> {
    let folder = scene.folder.path().join("bare");
    let bin = folder.join("bin");
    let what = || format!("could not make {}", bin.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).context(what)?;
    }
    fs::create_dir_all(&bin).context(what)?;
    for program in TOOLS.iter().chain(programs) {
        symlink(find(program)?, bin.join(program)).context(what)?;
    }
    fs::write(folder.join("script"), script).context(what)?;
    let run = format!("PATH={} sh {}/script", bin.display(), folder.display());
    scene.boot("#cloud-config\n{}\n", &run).await
}

fn find(program: &str) -> Result<std::path::PathBuf> {
    ["/usr/bin", "/bin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.exists())
        .ok_or_else(|| Stop::missing(format!("needs {program}")))
}

async fn fetched(scene: &Scene, server: &Server, program: &str) -> Result<()> {
    let name = format!("fetched-by-{program}");
    let host = scene.host(&name)?;
    let url = format!("https://127.0.0.1:{}/{name}/install.sh", server.https);
    let inputs = scene.inputs(&scene.token().await?, &url, &json!({}))?;
    let boot = on_host(scene, inputs, &[program]).await?;
    let ok = host.agent_toml(&scene.hub).is_ok() && boot.left.is_empty();
    expect(ok, &boot, "not enrolled")
}

async fn late(scene: &Scene, server: &Server) -> Result<()> {
    let host = scene.host("late/mirror")?;
    let url = format!("https://127.0.0.1:{}/late/mirror/install.sh", server.https);
    let inputs = scene.inputs(&scene.token().await?, &url, &json!({}))?;
    let boot = on_host(scene, inputs, &["curl"]).await?;
    let ok = host.agent_toml(&scene.hub).is_ok() && boot.after.contains("try 1 of 12");
    expect(ok, &boot, "not enrolled, or not told")
}

/// What is not there will not come by waiting.
async fn absent(scene: &Scene, server: &Server) -> Result<()> {
    let url = format!("https://127.0.0.1:{}/absent/install.sh", server.https);
    let inputs = scene.inputs(&scene.token().await?, &url, &json!({}))?;
    let boot = on_host(scene, inputs, &["curl"]).await?;
    let ok = boot.after.contains("404")
        && !boot.after.contains("try 1")
        && boot.after.ends_with("exit 69\n");
    expect(ok, &boot, "not told at once")
}

/// Without the CA, no byte of the script is taken, however often it is tried.
async fn stranger(scene: &Scene, server: &Server) -> Result<()> {
    let host = scene.host("stranger")?;
    let url = format!("https://127.0.0.1:{}/stranger/install.sh", server.https);
    let inputs = scene.inputs(&scene.token().await?, &url, &json!({"ca_pem": null}))?;
    let script = scene
        .render(inputs)
        .await?
        .install_script
        .unwrap_or_default();
    let once = script.replacen("INSTALL_URL=", "TRIES=1\nINSTALL_URL=", 1);
    for program in ["curl", "wget", "python3"] {
        let boot = run_script(scene, &once, &[program]).await?;
        let told = boot.after.contains("could not be fetched") && boot.after.ends_with("exit 69\n");
        let ok = told && host.agent_toml(&scene.hub).is_err();
        expect(ok, &boot, &format!("{program} took it, or did not tell"))?;
    }
    Ok(())
}

/// From https, nothing that came without TLS on any part of the way is run.
async fn no_redirect_to_http(scene: &Scene, server: &Server) -> Result<()> {
    for way in ["down", "down/up"] {
        for program in ["curl", "wget", "python3"] {
            let name = format!("redirected-{}-{program}", way.len());
            let host = scene.host(&name)?;
            let url = format!("https://127.0.0.1:{}/{way}/{name}/install.sh", server.https);
            let boot = once(scene, &url, program).await?;
            let told = boot.after.contains("could not be fetched");
            let ok =
                told && boot.after.ends_with("exit 69\n") && host.agent_toml(&scene.hub).is_err();
            expect(ok, &boot, &format!("{program} took it by {way}"))?;
        }
    }
    Ok(())
}

/// wget cannot tell one redirect from the other, and says so.
async fn redirect_to_https(scene: &Scene, server: &Server) -> Result<()> {
    for program in ["curl", "wget", "python3"] {
        let name = format!("raised-{program}");
        let host = scene.host(&name)?;
        let url = format!("https://127.0.0.1:{}/up/{name}/install.sh", server.https);
        let boot = once(scene, &url, program).await?;
        let is_taken = host.agent_toml(&scene.hub).is_ok();
        let ok = if program == "wget" {
            !is_taken
                && boot
                    .after
                    .contains("this URL is a redirect, and wget follows none")
        } else {
            is_taken
        };
        expect(ok, &boot, program)?;
    }
    Ok(())
}

/// Nothing waits for whoever may write into a pipe one day.
async fn pipe(scene: &Scene) -> Result<()> {
    let folder = scene.folder.path().join("dist/pipe");
    fs::create_dir_all(&folder).context(|| format!("could not make {}", folder.display()))?;
    let path = folder.join("install.sh");
    process::run(tokio::process::Command::new("mkfifo").arg(&path)).await?;
    let url = format!("file://{}", path.display());
    let inputs = scene.inputs(&scene.token().await?, &url, &json!({}))?;
    let boot = on_host(scene, inputs, &["curl"]).await?;
    let ok = boot.after.contains("is not a regular file")
        && !boot.after.contains("try 1")
        && boot.after.ends_with("exit 69\n");
    expect(ok, &boot, "not told at once")
}

/// A host with one program that fetches, which tries once.
async fn once(scene: &Scene, url: &str, program: &str) -> Result<Boot> {
    let inputs = scene.inputs(&scene.token().await?, url, &json!({}))?;
    let script = scene
        .render(inputs)
        .await?
        .install_script
        .unwrap_or_default();
    let once = script.replacen("INSTALL_URL=", "TRIES=1\nINSTALL_URL=", 1);
    run_script(scene, &once, &[program]).await
}

/// It says what to put there.
async fn nothing_fetches(scene: &Scene, server: &Server) -> Result<()> {
    let url = format!("https://127.0.0.1:{}/absent/install.sh", server.https);
    let inputs = scene.inputs(&scene.token().await?, &url, &json!({}))?;
    let script = scene
        .render(inputs)
        .await?
        .install_script
        .unwrap_or_default();
    let once = script.replacen("INSTALL_URL=", "TRIES=1\nINSTALL_URL=", 1);
    let boot = run_script(scene, &once, &[]).await?;
    let ok =
        boot.after.contains("no curl, GNU wget or python3") && boot.after.ends_with("exit 69\n");
    expect(ok, &boot, "not told")
}
