//! Invalid input: exit code 64, and the flag or variable that it came from.

use crate::common::TestHost;

#[test]
fn every_bad_value_is_reported_with_its_source() {
    let host = TestHost::new();
    let long_tag = "x".repeat(129);
    let many_tags = (0..65).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let long_token = format!("enrl_{}", "a".repeat(600));
    for (flag, value, cause) in [
        ("--hub-url", "hub.example.com", "no scheme"),
        ("--hub-url", "ftp://hub.example.com", "ftp"),
        ("--hub-url", "https://me:pw@hub.example.com", "user name"),
        ("--hub-url", "http://hub.example.com", "without encryption"),
        ("--tag", long_tag.as_str(), "129 characters"),
        ("--tag", "a\nb", "line break"),
        ("--tag", "a,b", "comma"),
        ("--tags", many_tags.as_str(), "65 tags"),
        ("--role", "a\tb", "control character"),
        ("--ca-pin", "sha256:abc", "64 hexadecimal digits"),
        ("--wait", "soon", "not a valid duration"),
        ("--splay", "-1s", "not a valid duration"),
    ] {
        let argument = format!("{flag}={value}");
        host.agent(&["enrol", &argument])
            .env("MONSYS_TOKEN", "enrl_x1")
            .run()
            .expect(64)
            .expect_stderr(&[flag, cause, "hint:"]);
    }
    for (variable, value, cause) in [
        ("MONSYS_HUB_URL", "hub.example.com:8443", "no scheme"),
        ("MONSYS_TAGS", long_tag.as_str(), "129 characters"),
        ("MONSYS_TAGS", many_tags.as_str(), "65 tags"),
        ("MONSYS_TAGS", "a\nb", "line break"),
        ("MONSYS_ROLE", "a\nb", "control character"),
        ("MONSYS_WAIT", "5 parsecs", "not a valid duration"),
        ("MONSYS_TOKEN", long_token.as_str(), "605 bytes"),
        ("MONSYS_TOKEN", "enrl_a b", "a space"),
        ("MONSYS_TOKEN", "ENRL_abc", "capitals"),
        ("MONSYS_TOKEN", "abc", "neither"),
        ("HTTPS_PROXY", "socks5://x", "a proxy's URL is"),
        ("ALL_PROXY", "socks5h://x", "SOCKS is not supported"),
        ("all_proxy", "http://svc:77#Secr3t@proxy:3128", "%23"),
        // The user would be the host, and messages would show the digits.
        ("HTTPS_PROXY", "http://svc:77#Secr3t@proxy:3128", "%23"),
        ("HTTPS_PROXY", "http://svc:99/Secr3t@proxy:3128", "%2F"),
        ("HTTPS_PROXY", "http://svc:11?Secr3t@proxy:3128", "%3F"),
    ] {
        let run = host
            .agent(&["enrol"])
            .env("MONSYS_TOKEN", "enrl_x1")
            .env(variable, value)
            .run()
            .expect(64)
            .expect_stderr(&[variable, cause, "hint:"]);
        let is_shown = run.stderr.contains("svc") || run.stderr.contains("Secr3t");
        assert!(!is_shown, "{}", run.stderr);
    }
    // Nothing was written.
    assert!(!host.path("etc/monsys").exists());
    assert!(!host.path("var").exists());
}

#[test]
fn bad_input_is_reported_in_json() {
    let run = TestHost::new()
        .agent(&["enrol", "--output", "json", "--hub-url", "nowhere"])
        .run()
        .expect(64);
    let error = &run.json()["error"];
    assert_eq!(error["id"], "bad-hub-url");
    assert_eq!(error["exit_code"], 64);
    assert!(error["cause"].as_str().unwrap().contains("no scheme"));
    assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
}
