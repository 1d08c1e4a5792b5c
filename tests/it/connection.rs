//! Trust and routing: CA files, pins, schemes and proxies.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use mock_hub::Options;

use crate::common::{TestHost, TestHub};

#[test]
fn an_unknown_ca_is_rejected_before_any_request() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let url = hub.url();
    host.agent(&["enrol", "--hub-url", &url])
        .env("MONSYS_TOKEN", &hub.token())
        .run()
        .expect(69)
        .expect_stderr(&["not trusted", "--ca-file", "--ca-pin"]);
    let other = TestHub::new();
    let ca_file = other.ca_file().unwrap();
    host.agent(&[
        "enrol",
        "--hub-url",
        &url,
        "--ca-file",
        ca_file.to_str().unwrap(),
    ])
    .env("MONSYS_TOKEN", &hub.token())
    .run()
    .expect(69)
    .expect_stderr(&["not trusted"]);
    assert_eq!(hub.spent(), 0);
}

#[test]
fn a_pin_alone_is_enough_and_a_wrong_pin_is_reported() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (url, pin, token) = (hub.url(), hub.ca_pin(), hub.token());
    let wrong = TestHub::new().ca_pin();
    let enrol = |arguments: &[&str]| {
        let arguments = [&["enrol", "--hub-url", &url], arguments].concat();
        host.agent(&arguments).env("MONSYS_TOKEN", &token)
    };
    enrol(&["--ca-pin", &wrong])
        .run()
        .expect(69)
        .expect_stderr(&["pinned key"]);
    let ca_file = host.install_ca(&hub).unwrap();
    enrol(&["--ca-pin", &wrong, "--ca-file", ca_file.to_str().unwrap()])
        .run()
        .expect(69)
        .expect_stderr(&["pinned key"]);
    enrol(&["--ca-pin", &pin]).run().expect(0);
    assert_eq!(host.key("ca_pin").unwrap(), pin);
    host.agent(&["enrol", "--tag", "x"]).run().expect(0);
}

#[test]
fn a_ca_file_may_hold_several_certificates_and_a_broken_file_is_reported() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let other = std::fs::read_to_string(TestHub::new().ca_file().unwrap()).unwrap();
    let own = std::fs::read_to_string(hub.ca_file().unwrap()).unwrap();
    let url = hub.url();
    let enrol = |text: &str| {
        let path = host.write_file("etc/ssl/bundle.pem", text);
        let path = path.to_str().unwrap();
        host.agent(&["enrol", "--hub-url", &url, "--ca-file", path])
            .env("MONSYS_TOKEN", &hub.token())
            .run()
    };
    enrol("not a certificate\n")
        .expect(64)
        .expect_stderr(&["--ca-file", "no PEM certificate"]);
    enrol("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .expect(64)
        .expect_stderr(&["--ca-file", "certificate 1 (line 1) is broken"]);
    let broken = own.replacen("\nMI", "\n!!", 1);
    enrol(&format!("{other}{broken}"))
        .expect(64)
        .expect_stderr(&["certificate 2 (line", "is not Base64"]);
    enrol(&format!("{other}\n{own}")).expect(0);
    host.agent(&["enrol", "--force", "--ca-file", "/nonexistent.pem"])
        .run()
        .expect(74)
        .expect_stderr(&["--ca-file /nonexistent.pem"]);
}

/// As RFC 7468 reads them: a byte order mark, older labels, and no line break between two certificates.
#[test]
fn a_ca_file_is_read_as_editors_and_other_tools_leave_it() {
    let hub = TestHub::new();
    let other = std::fs::read_to_string(TestHub::new().ca_file().unwrap()).unwrap();
    let own = std::fs::read_to_string(hub.ca_file().unwrap()).unwrap();
    for text in [
        format!("\u{feff}{own}"),
        format!("\u{feff}{own}{other}"),
        format!("{other}\u{feff}{own}"),
        format!("{}{own}", other.trim_end()),
        own.replace("CERTIFICATE", "X509 CERTIFICATE"),
        own.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
        own.replace('\n', "\r\n"),
    ] {
        let host = TestHost::new();
        let path = host.write_file("etc/ssl/ca.pem", &text);
        let (url, path) = (hub.url(), path.to_str().unwrap());
        host.agent(&["enrol", "--hub-url", &url, "--ca-file", path])
            .env("MONSYS_TOKEN", &hub.token())
            .run()
            .expect(0);
    }
}

#[test]
fn plain_http_works_on_loopback() {
    let hub = TestHub::with(Options {
        http: true,
        ..Options::default()
    });
    let host = TestHost::new();
    host.enrol(&hub, &hub.token()).run().expect(0);
    hub.expect_one_slot();
}

#[test]
fn https_goes_through_a_proxy_tunnel_and_no_proxy_bypasses_it() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    // A proxy that rejects the request and returns what it received.
    let request = std::thread::spawn(move || {
        let (mut stream, _) = proxy.accept().unwrap();
        let mut request = Vec::new();
        let mut chunk = [0; 512];
        while !request.ends_with(b"\r\n\r\n") {
            let length = stream.read(&mut chunk).unwrap();
            assert_ne!(length, 0);
            request.extend_from_slice(&chunk[..length]);
        }
        stream
            .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            .unwrap();
        String::from_utf8(request).unwrap()
    });
    let token = hub.token();
    let run = host
        .enrol_with(&hub, &token, &["--wait", "0s"])
        .env("HTTPS_PROXY", &format!("http://me:hunter2@{address}"))
        .run()
        .expect(69)
        .expect_stderr(&["HTTPS_PROXY names the proxy 127.0.0.1"]);
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    let request = request.join().unwrap();
    let authority = hub.url().replace("https://", "");
    assert!(
        request.starts_with(&format!("CONNECT {authority} HTTP/1.1\r\n")),
        "{request}"
    );
    assert!(
        request
            .to_lowercase()
            .contains("proxy-authorization: basic bwu6ahvudgvymg=="),
        "{request}"
    );
    assert!(!request.contains(&token), "the proxy saw the token");

    host.enrol(&hub, &token)
        .env("HTTPS_PROXY", &format!("http://{address}"))
        .env("NO_PROXY", "127.0.0.0/8")
        .run()
        .expect(0);
}

/// As curl(1): the lower case wins, `ALL_PROXY` counts too, and the exceptions have its forms and Go's.
#[test]
fn proxies_and_their_exceptions_are_those_of_curl() {
    let hub = TestHub::new();
    let port = hub.url().rsplit(':').next().unwrap().to_owned();
    let dead = "http://127.0.0.1:1";
    let with = |variables: &[(&str, &str)]| {
        let host = TestHost::new();
        let enrol = host.enrol_with(&hub, &hub.token(), &["--wait", "0s"]);
        let variables = variables.iter();
        variables
            .fold(enrol, |enrol, (name, value)| enrol.env(name, value))
            .run()
    };
    for variables in [
        [("ALL_PROXY", dead)].as_slice(),
        &[("all_proxy", dead), ("no_proxy", "example.org")],
        &[("https_proxy", dead), ("HTTPS_PROXY", "http://127.0.0.1:2")],
    ] {
        let names = format!("{} names the proxy 127.0.0.1:1", variables[0].0);
        with(variables).expect(69).expect_stderr(&[&names]);
    }
    let with_port = format!("localhost,127.0.0.1:{port}");
    for exceptions in ["*", "x 127.0.0.1", &with_port, "127.0.0.0/8"] {
        with(&[("ALL_PROXY", dead), ("NO_PROXY", exceptions)]).expect(0);
    }
    with(&[("ALL_PROXY", "socks5h://127.0.0.1:1"), ("NO_PROXY", "*")]).expect(0);
    with(&[("ALL_PROXY", dead), ("NO_PROXY", "127.*")])
        .expect(69)
        .expect_stderr(&["NO_PROXY: passing over 127.*"]);
}

/// doctor and the facts follow the exceptions too.
#[test]
fn doctor_goes_to_a_hub_among_the_exceptions_without_the_proxy() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let run = host
        .enrol(&hub, &hub.token())
        .env("ALL_PROXY", "http://127.0.0.1:1")
        .env("NO_PROXY", "*")
        .run();
    run.expect(0);
    let run = host.agent(&["doctor"]).run();
    assert!(run.stdout.contains("no_proxy names the hub"), "{run:?}");
    assert!(run.code == 0, "{run:?}");
}

/// A security module, a local firewall, the service manager, or a kernel without IPv6.
#[test]
fn a_connection_that_this_host_forbids_is_explained() {
    let hub = TestHub::new();
    for (error, cause) in [
        ("EACCES", "a firewall rule, SELinux, or `IPAddressDeny=`"),
        ("EPERM", "this host forbids the connection"),
        ("EAFNOSUPPORT", "its kernel has no IPv6"),
    ] {
        let mut strace = Command::new("strace");
        let inject = format!("inject=connect:error={error}");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=connect", "-e"]);
        strace.arg(inject);
        TestHost::new()
            .enrol_with(&hub, &hub.token(), &["--wait", "0s"])
            .under(&mut strace)
            .run()
            .expect(69)
            .expect_stderr(&["no connection", cause]);
    }
    assert_eq!(hub.spent(), 0);
}

#[test]
fn a_wrong_scheme_is_reported() {
    let plain = TestHub::with(Options {
        http: true,
        ..Options::default()
    });
    let hub = TestHub::new();
    for (url, message) in [
        (plain.url().replace("http:", "https:"), "plain http?"),
        (hub.url().replace("https:", "http:"), "https://"),
    ] {
        TestHost::new()
            .agent(&["enrol", "--wait", "0", "--hub-url", &url])
            .env("MONSYS_TOKEN", "enrl_x1")
            .run()
            .expect(69)
            .expect_stderr(&[message]);
    }
}
