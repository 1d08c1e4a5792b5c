//! The download of install.sh by the boot script: with each program that a host may have, over TLS with a private
//! CA, late, and not at all.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::boot::Boot;
use crate::scene::{Host, Scene};
use crate::server::Server;

/// The programs that the scripts use, but for those that fetch.
const TOOLS: [&str; 20] = [
    "cat",
    "chmod",
    "cut",
    "dd",
    "dirname",
    "env",
    "grep",
    "head",
    "mkdir",
    "mv",
    "od",
    "rm",
    "sed",
    "sh",
    "sha256sum",
    "sleep",
    "tail",
    "tee",
    "uname",
    "wc",
];
/// The programs that fetch.
const FETCHERS: [&str; 3] = ["curl", "wget", "python3"];

/// A scene with a mirror.
struct Mirror {
    server: Server,
    scene: Scene,
}

impl Mirror {
    fn new() -> Self {
        let scene = Scene::new();
        let server = Server::start(&scene, &scene.dist(), "");
        Self { server, scene }
    }

    fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}/{path}/install.sh", self.server.https)
    }

    /// Runs the module's script, which fetches install.sh below `path`, on a host with these programs;
    /// with `once`, it does not try again.
    #[track_caller]
    fn run(&self, path: &str, once: bool, programs: &[&str]) -> Boot {
        let token = self.scene.token();
        let mut script = self.scene.script(&token, &self.url(path), &json!({}));
        if once {
            script = tried_once(&script);
        }
        on_host(&self.scene, &script, programs)
    }
}

fn tried_once(script: &str) -> String {
    script.replacen("INSTALL_URL=", "TRIES=1\nINSTALL_URL=", 1)
}

/// Runs a script on a host with these programs and no others.
#[track_caller]
fn on_host(scene: &Scene, script: &str, programs: &[&str]) -> Boot {
    let folder = scene.folder.path().join("bare");
    let bin = folder.join("bin");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&bin).unwrap();
    for program in TOOLS.iter().chain(programs) {
        symlink(find(program), bin.join(program)).unwrap();
    }
    fs::write(folder.join("script"), script).unwrap();
    let run = format!("PATH={} sh {}/script", bin.display(), folder.display());
    Boot::of("#cloud-config\n{}\n", &run)
}

#[track_caller]
fn find(program: &str) -> PathBuf {
    let folders = ["/usr/bin", "/bin", "/usr/local/bin"];
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(program));
    let path = paths.find(|path| path.exists());
    path.unwrap_or_else(|| panic!("needs {program} (`cargo xtask test cloud-init` installs it)"))
}

/// Returns whether the script gave up at once, and named the cause.
fn gave_up(boot: &Boot, cause: &str) -> bool {
    boot.after.contains(cause) && !boot.after.contains("try 1") && boot.after.ends_with("exit 69\n")
}

#[track_caller]
fn fetches_with(program: &str) {
    let mirror = Mirror::new();
    let host = mirror.scene.host("fetched");
    let boot = mirror.run("fetched", false, &[program]);
    boot.expect(host.is_enrolled() && boot.left.is_empty(), "not enrolled");
}

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn curl_fetches_it() {
    fetches_with("curl");
}

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn wget_fetches_it() {
    fetches_with("wget");
}

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn python_fetches_it() {
    fetches_with("python3");
}

#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_mirror_that_is_late_is_tried_again() {
    let mirror = Mirror::new();
    let host = mirror.scene.host("late/mirror");
    let boot = mirror.run("late/mirror", false, &["curl"]);
    let ok = host.is_enrolled() && boot.after.contains("try 1 of 12");
    boot.expect(ok, "not enrolled, or not reported");
}

/// A file that is missing will not come by waiting.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_file_that_is_missing_is_reported_at_once() {
    let boot = Mirror::new().run("absent", false, &["curl"]);
    boot.expect(gave_up(&boot, "404"), "not reported at once");
}

/// Without the CA, no byte of the script is taken, however often it is tried.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_mirror_of_an_unknown_ca_is_not_trusted() {
    let mirror = Mirror::new();
    let host = mirror.scene.host("stranger");
    let (token, more) = (mirror.scene.token(), json!({"ca_pem": null}));
    let script = mirror.scene.script(&token, &mirror.url("stranger"), &more);
    for program in FETCHERS {
        let boot = on_host(&mirror.scene, &tried_once(&script), &[program]);
        boot.expect(is_refused(&boot, &host), program);
    }
}

fn is_refused(boot: &Boot, host: &Host) -> bool {
    boot.after.contains("could not be fetched")
        && boot.after.ends_with("exit 69\n")
        && !host.is_enrolled()
}

/// From https, nothing that came without TLS on any part of the way is run.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_redirect_to_http_is_refused() {
    let mirror = Mirror::new();
    let host = mirror.scene.host("redirected");
    for way in ["down", "down/up"] {
        for program in FETCHERS {
            let boot = mirror.run(&format!("{way}/redirected"), true, &[program]);
            boot.expect(is_refused(&boot, &host), &format!("{program} by {way}"));
        }
    }
}

/// wget does not distinguish one redirect from another, and its error says so.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_redirect_to_https_is_followed_except_by_wget() {
    let mirror = Mirror::new();
    for program in FETCHERS {
        let name = format!("raised-{program}");
        let host = mirror.scene.host(&name);
        let boot = mirror.run(&format!("up/{name}"), true, &[program]);
        let ok = if program == "wget" {
            let message = "this URL is a redirect, and wget follows none";
            !host.is_enrolled() && boot.after.contains(message)
        } else {
            host.is_enrolled()
        };
        boot.expect(ok, program);
    }
}

/// The agent does not read these files either.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn the_settings_of_curl_and_wget_in_the_home_of_root_do_not_apply() {
    let mirror = Mirror::new();
    let home = mirror.scene.folder.path().join("home");
    fs::create_dir(&home).unwrap();
    for (file, text) in [
        (".curlrc", "proxy = http://127.0.0.1:1\ninclude\n"),
        (".wgetrc", "https_proxy = http://127.0.0.1:1\n"),
    ] {
        fs::write(home.join(file), text).unwrap();
    }
    for program in ["curl", "wget"] {
        let name = format!("home-{program}");
        let host = mirror.scene.host(&name);
        let token = mirror.scene.token();
        let script = mirror.scene.script(&token, &mirror.url(&name), &json!({}));
        let script = format!("export HOME={}\n{}", home.display(), tried_once(&script));
        let boot = on_host(&mirror.scene, &script, &[program]);
        boot.expect(host.is_enrolled() && boot.left.is_empty(), program);
    }
}

/// Nothing waits for a writer of a pipe.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_pipe_as_install_sh_is_refused() {
    let scene = Scene::new();
    let folder = scene.dist().join("pipe");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("install.sh");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let url = format!("file://{}", path.display());
    let script = scene.script(&scene.token(), &url, &json!({}));
    let boot = on_host(&scene, &script, &["curl"]);
    let ok = gave_up(&boot, "is not a regular file");
    boot.expect(ok, "not reported at once");
}

/// The message names the programs to install.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn a_host_that_can_fetch_nothing_names_the_programs() {
    let boot = Mirror::new().run("absent", true, &[]);
    let ok = boot.after.contains("no curl, GNU wget or python3");
    boot.expect(ok && boot.after.ends_with("exit 69\n"), "not reported");
}
