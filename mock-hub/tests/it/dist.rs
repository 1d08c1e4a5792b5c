//! The hub as a mirror: the installer and the files beside it.

use crate::clients::{Caller, answer, hub, hub_with, text};
use crate::program::Running;
use crate::raw::exchange;
use mock_hub::{Hub, Options};
use nix::sys::signal::Signal;
use reqwest::{Method, Response};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;

const INSTALLER: &str = "#!/bin/sh
DEFAULT_VERSION='0.1.0'
DEFAULT_DOWNLOAD_URL='https://get.example/releases/v0.1.0'
DEFAULT_HUB_URL=''
echo \"$DEFAULT_DOWNLOAD_URL\"
";
const BINARY: &str = "monsys-agent-0.1.0-linux-x86_64";

/// Starts a hub with a folder of `install.sh`, a binary of 3 MB, and files that must not be served.
async fn mirror(http: bool) -> (Hub, Caller, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let dist = dir.path().join("dist");
    fs::create_dir_all(dist.join("deeper")).expect("a directory");
    fs::write(dir.path().join("beside"), "not to be served").expect("a file");
    fs::write(dist.join("install.sh"), INSTALLER).expect("a file");
    fs::write(dist.join(BINARY), binary()).expect("a file");
    fs::write(dist.join(".hidden"), "not to be served").expect("a file");
    fs::write(dist.join("deeper/file"), "not to be served").expect("a file");
    let options = Options {
        http,
        dist: Some(dist),
        ..Options::default()
    };
    let hub = hub_with(options).await;
    let caller = Caller::of(&hub);
    (hub, caller, dir)
}

fn binary() -> Vec<u8> {
    (0..3_000_000_u32).map(|n| (n % 251) as u8).collect()
}

async fn send(caller: &Caller, method: Method, path: &str) -> Response {
    let request = caller.request(method, path);
    request.send().await.expect("an answer")
}

fn head<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().expect("text")
}

/// Returns the script for a client with this `Host` header.
async fn script_for(hub: &Hub, host: &str) -> String {
    let request = format!("GET /install.sh HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
    let (answer, _) = exchange(hub, request.as_bytes()).await;
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn the_installer_names_the_hub_whatever_the_client_sends() {
    for http in [false, true] {
        let (hub, caller, _dir) = mirror(http).await;
        let response = send(&caller, Method::GET, "/install.sh").await;
        assert_eq!(
            head(&response, "content-type"),
            "text/x-shellscript; charset=utf-8"
        );
        let url = hub.url();
        let script = response.text().await.expect("a script");
        assert_eq!(
            script,
            format!(
                "#!/bin/sh\nDEFAULT_VERSION='0.1.0'\nDEFAULT_DOWNLOAD_URL='{url}/dist'\n\
                 DEFAULT_HUB_URL='{url}'\necho \"$DEFAULT_DOWNLOAD_URL\"\n"
            )
        );

        for host in [
            "",
            "Host: evil.example\r\n",
            "Host: hub.example.com:8443\r\n",
            "Host: x';touch$IFS/owned;'\r\n",
        ] {
            let served = script_for(&hub, host).await;
            let expected = format!("\nDEFAULT_HUB_URL='{url}'\n");
            let refused = served.starts_with("HTTP/1.1 400");
            assert!(served.contains(&expected) || refused, "{host:?}: {served}");
            assert!(!served.contains("example") && !served.contains("owned"));
        }
        hub.stop().await;
    }
}

#[tokio::test]
async fn the_host_header_chooses_among_the_hubs_own_urls() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("install.sh"), INSTALLER).expect("a file");
    let dist = dir.path().to_str().expect("text");
    let hub = Running::start(&[
        "--http",
        "--dist",
        dist,
        "--public-url",
        "https://Hub.example.com/",
        "--public-url",
        "https://192.0.2.1:8443",
    ]);
    let caller = hub.caller();
    let (_, own) = caller.url.split_once("://").expect("a URL");
    let first = "https://hub.example.com";
    for (host, expected) in [
        (own, caller.url.as_str()),
        ("hub.example.com", first),
        ("hub.example.com:443", first),
        ("192.0.2.1:8443", "https://192.0.2.1:8443"),
        ("evil.example", first),
        ("192.0.2.1", first),
        ("localhost", first),
    ] {
        let request = caller.request(Method::GET, "/install.sh");
        let answer = request.header("Host", host).send().await;
        let script = answer.expect("an answer").text().await.expect("a script");
        let urls: Vec<&str> = script
            .lines()
            .filter_map(|line| line.strip_prefix("DEFAULT_"))
            .collect();
        assert_eq!(
            urls[1..],
            [
                format!("DOWNLOAD_URL='{expected}/dist'"),
                format!("HUB_URL='{expected}'")
            ],
            "{host}"
        );
    }
    hub.end(Signal::SIGTERM);
}

#[tokio::test]
async fn a_file_is_served_completely_with_length_and_type() {
    let (hub, caller, dir) = mirror(false).await;
    let path = format!("/dist/{BINARY}");
    let response = send(&caller, Method::GET, &path).await;
    assert_eq!(response.status(), 200);
    assert_eq!(head(&response, "content-length"), "3000000");
    assert_eq!(head(&response, "content-type"), "application/octet-stream");
    assert_eq!(response.bytes().await.expect("a body"), binary());

    let response = send(&caller, Method::HEAD, &path).await;
    assert_eq!(response.status(), 200);
    assert_eq!(head(&response, "content-length"), "3000000");
    assert!(response.bytes().await.expect("no body").is_empty());

    let part = caller
        .request(Method::GET, &path)
        .header("Range", "bytes=2999998-");
    let part = part.send().await.expect("an answer");
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.expect("a body"), binary()[2_999_998..]);

    let dist = dir.path().join("dist");
    for (name, content_type) in [
        ("SHA256SUMS", "text/plain; charset=utf-8"),
        ("SHA256SUMS.minisig", "text/plain; charset=utf-8"),
        ("a-0.1.0-linux-x86_64.tar.gz", "application/gzip"),
        (
            "a_0.1.0-1_amd64.deb",
            "application/vnd.debian.binary-package",
        ),
        ("a-0.1.0-1.x86_64.rpm", "application/x-rpm"),
        ("a-0.1.0.cdx.json", "application/vnd.cyclonedx+json"),
        ("a~b+c", "application/octet-stream"),
    ] {
        fs::write(dist.join(name), name).expect("a file");
        let response = send(&caller, Method::GET, &format!("/dist/{name}")).await;
        assert_eq!(head(&response, "content-type"), content_type, "{name}");
        assert_eq!(response.text().await.expect("a body"), name);
    }
    hub.stop().await;
}

#[tokio::test]
async fn nothing_but_the_files_of_the_folder_is_there() {
    let (hub, caller, dir) = mirror(false).await;
    let dist = dir.path().join("dist");
    symlink(dir.path(), dist.join("up")).expect("a link");
    for path in [
        "/dist",
        "/dist/",
        "/dist/nothing",
        "/dist/deeper",
        "/dist/deeper/file",
        "/dist/deeper%2Ffile",
        "/dist/.hidden",
        "/dist/%2e%2e%2fbeside",
        "/dist/..%2fbeside",
        "/dist/up",
        "/dist/up%2fbeside",
        "/dist/%00",
        "/dist/install.sh%00",
        "/dist/%ff",
    ] {
        let (status, body) = answer(caller.request(Method::GET, path)).await;
        assert_eq!(
            (status, text(&body, "error").as_str()),
            (404, "not_found"),
            "{path}"
        );
    }
    // A client that does not normalise the path.
    for path in [
        "/dist/../beside",
        "/dist/./../../etc/passwd",
        "//etc/passwd",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let (answer, _) = exchange(&hub, request.as_bytes()).await;
        assert!(answer.starts_with(b"HTTP/1.1 404"), "{path}");
    }
    assert_eq!(
        send(&caller, Method::POST, "/install.sh").await.status(),
        405
    );
    hub.stop().await;

    let plain = crate::clients::hub().await;
    let caller = Caller::of(&plain);
    for path in ["/install.sh", "/dist/install.sh"] {
        assert_eq!(answer(caller.request(Method::GET, path)).await.0, 404);
    }
    plain.stop().await;
}

#[tokio::test]
async fn a_script_without_its_lines_is_not_served() {
    let (hub, caller, dir) = mirror(false).await;
    let script = dir.path().join("dist/install.sh");
    fs::write(&script, "#!/bin/sh\nDEFAULT_HUB_URL=''\n").expect("a file");
    let (status, body) = answer(caller.request(Method::GET, "/install.sh")).await;
    assert_eq!((status, text(&body, "error").as_str()), (500, "internal"));
    fs::remove_file(&script).expect("the file is removed");
    assert_eq!(
        answer(caller.request(Method::GET, "/install.sh")).await.0,
        404
    );
    hub.stop().await;
}

#[tokio::test]
async fn faults_happen_to_downloads_too() {
    let (hub, caller, _dir) = mirror(false).await;
    let path = format!("/dist/{BINARY}");
    for fault in [
        json!({"route": "install", "status": 404}),
        json!({"route": "install", "truncate_at": 30}),
        json!({"route": "dist", "status": 404}),
        json!({"route": "dist", "reset": "before"}),
        json!({"route": "dist", "reset": "after"}),
        json!({"route": "dist", "truncate_at": 1_500_000}),
        json!({"route": "dist", "body": "other bytes"}),
        json!({"route": "dist", "delay_ms": 1}),
    ] {
        caller.fault(fault).await;
    }
    let get = async |path: &str| caller.request(Method::GET, path).send().await;
    assert_eq!(get("/install.sh").await.expect("an answer").status(), 404);
    let half = get("/install.sh").await.expect("a head");
    assert!(half.bytes().await.is_err());
    let full = get("/install.sh").await.expect("an answer");
    assert!(
        full.text()
            .await
            .expect("a script")
            .starts_with("#!/bin/sh\nDEFAULT_VERSION=")
    );

    assert_eq!(get(&path).await.expect("an answer").status(), 404);
    assert!(get(&path).await.is_err());
    assert!(get(&path).await.is_err());
    let half = get(&path).await.expect("a head");
    assert_eq!(head(&half, "content-length"), "3000000");
    assert!(half.bytes().await.is_err());
    let other = get(&path).await.expect("an answer");
    assert_eq!(other.text().await.expect("a body"), "other bytes");
    for _ in 0..2 {
        let full = get(&path).await.expect("an answer");
        assert_eq!(full.bytes().await.expect("a body"), binary());
    }
    hub.stop().await;
}

#[tokio::test]
async fn half_a_file_is_its_first_half() {
    let (hub, caller, _dir) = mirror(true).await;
    caller
        .fault(json!({"route": "dist", "truncate_at": 1_500_000}))
        .await;
    let request = format!("GET /dist/{BINARY} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let (answer, _) = exchange(&hub, request.as_bytes()).await;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    assert_eq!(answer[end.expect("a head") + 4..], binary()[..1_500_000]);
    hub.stop().await;
}

#[tokio::test]
async fn a_fault_can_wait_for_one_file() {
    let (hub, caller, dir) = mirror(false).await;
    fs::write(dir.path().join("dist/SHA256SUMS"), "sums").expect("a file");
    caller
        .fault(json!({"route": "dist", "file": BINARY, "status": 503}))
        .await;
    assert_eq!(
        send(&caller, Method::GET, "/dist/SHA256SUMS")
            .await
            .status(),
        200
    );
    let path = format!("/dist/{BINARY}");
    assert_eq!(send(&caller, Method::GET, &path).await.status(), 503);
    assert_eq!(send(&caller, Method::GET, &path).await.status(), 200);
    let elsewhere = json!({"route": "enrol", "file": BINARY, "status": 503});
    assert_eq!(caller.post("/api/v1/faults", &elsewhere).await.0, 422);
    hub.stop().await;
}

#[tokio::test]
async fn a_missing_folder_is_an_error_at_start() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    for dist in [Path::new("/nowhere/dist"), file.path()] {
        let options = Options {
            dist: Some(dist.to_owned()),
            ..Options::default()
        };
        let Err(cause) = mock_hub::start(options).await else {
            panic!("it starts");
        };
        let cause = cause.to_string();
        assert!(
            cause.contains(dist.to_str().expect("text")) && cause.contains("--dist"),
            "{cause}"
        );
    }
    hub().await.stop().await;
}
