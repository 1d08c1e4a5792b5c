//! Host names of URLs that are not ASCII: refused in favour of their A-label form (RFC 5890), which works.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::json;

use crate::common::{TestHost, TestHub};

/// A host name in its form for people, percent-encoded, and as an A-label.
const NAMES: [&str; 2] = ["b\u{fc}cher.example", "b%C3%BCcher.example"];
const A_LABEL: &str = "xn--bcher-kva.example";

/// Runs `enrol` with this in one place, and expects an error that names the place and the form to write.
#[track_caller]
fn refused(host: &TestHost, arguments: &[&str], variable: Option<(&str, &str)>, place: &str) {
    let mut agent = host.agent(&[&["enrol"], arguments].concat());
    if let Some((name, value)) = variable {
        agent = agent.env(name, value);
    }
    let run = agent.run().expect(64).expect_stderr(&[
        place,
        "which is not ASCII",
        "xn--bcher-kva.example",
    ]);
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
}

#[test]
fn host_names_that_are_not_ascii_are_refused_with_the_form_to_write() {
    let host = TestHost::new();
    for name in NAMES {
        let url = format!("https://{name}/monsys");
        let proxy = format!("http://me:hunter2@{name}:3128");
        refused(&host, &["--hub-url", &url], None, "--hub-url");
        for (variable, value) in [
            ("MONSYS_HUB_URL", &url),
            ("HTTPS_PROXY", &proxy),
            ("https_proxy", &proxy),
            ("ALL_PROXY", &proxy),
            ("https_proxy", &format!("{name}:3128")),
        ] {
            refused(&host, &[], Some((variable, value)), variable);
        }
        for (key, value) in [("hub_url", &url), ("https_proxy", &proxy)] {
            let text = format!("{key} = \"{value}\"\n");
            host.write_file("etc/monsys/agent.toml", &text);
            refused(&host, &[], None, &format!("`{key}` in"));
            host.write_file("etc/monsys/agent.toml", "");
        }
        for (dialect, variable) in [
            ("mimir", "MIMIR_SERVER_URL"),
            ("ravenxcope", "BACKEND_URL"),
            ("lyftdata", "LYFTDATA_URL"),
        ] {
            let arguments = ["--dialect", dialect];
            refused(&host, &arguments, Some((variable, &url)), variable);
        }
    }
    host.agent(&["enrol", "--hub-url", "https://hub.example\u{200b}"])
        .run()
        .expect(64)
        .expect_stderr(&["--hub-url", "U+200B", "remove the invisible character"]);
}

/// The proxy is asked for the hub under that name, and the name of the proxy itself is looked up.
#[test]
fn an_a_label_is_the_name_of_a_hub_and_of_a_proxy() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let request = std::thread::spawn(move || {
        let (mut stream, _) = proxy.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.push(byte[0]);
        }
        stream
            .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        String::from_utf8(request).unwrap()
    });
    let enrol = |url: &str| {
        host.agent(&["enrol", "--wait", "0s", "--hub-url", url])
            .env("MONSYS_TOKEN", &hub.token())
    };
    let url = format!("https://{A_LABEL}:8443");
    enrol(&url)
        .env("https_proxy", &format!("http://{address}"))
        .run()
        .expect(69)
        .expect_stderr(&[&url]);
    let request = request.join().unwrap();
    let line = format!("CONNECT {A_LABEL}:8443 HTTP/1.1\r\n");
    assert!(request.starts_with(&line), "{request}");

    // RFC 6761, section 6.4: no name below `invalid` exists.
    enrol(&url)
        .env("https_proxy", "http://xn--bcher-kva.invalid:3128")
        .run()
        .expect(69)
        .expect_stderr(&["xn--bcher-kva.invalid"]);
}

#[test]
fn a_redirect_to_an_a_label_is_named() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let location = format!("https://{A_LABEL}/api/v1/agents/enrol");
    hub.fault(json!({"route": "enrol", "status": 307, "location": location}));
    host.enrol(&hub, &hub.token())
        .run()
        .expect(76)
        .expect_stderr(&["redirects are not followed", &location]);
}
