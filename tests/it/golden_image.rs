//! `enrol --defer`: an image without identity and secret, which enrols at its first boot.

use serde_json::json;

use crate::common::{Run, TestHost, TestHub};

#[test]
fn each_host_of_a_prepared_image_enrols_separately() {
    let (hub, image) = (TestHub::new(), TestHost::new());
    let run = image
        .enrol_with(
            &hub,
            "",
            &[
                "--defer",
                "--tag",
                "shard-3",
                "--role",
                "db",
                "--token-file",
                "/run/monsys-token",
                "--output",
                "json",
            ],
        )
        .run()
        .expect(0);
    let report = run.json();
    assert_eq!(report["result"], "deferred");
    assert_eq!(report["changed"], true);
    assert_eq!(report["token_from"], "the file /run/monsys-token");
    assert_eq!((hub.agents().len(), hub.spent()), (0, 0));
    for name in ["agent-signing.key", "agent-id", "state.json"] {
        assert!(!image.path("var/lib/monsys").join(name).exists(), "{name}");
    }
    assert_eq!(image.key("agent_token"), None);
    image.agent(&["status"]).run().expect(78);
    // A second run changes nothing.
    let again = image
        .agent(&["enrol", "--defer", "--output", "json"])
        .run()
        .expect(0);
    assert_eq!(again.json()["changed"], false);

    let token = hub.token();
    for machine in ["1", "2"] {
        let host = image.copy();
        host.write_file("etc/machine-id", &format!("{}\n", machine.repeat(32)));
        host.write_file("run/monsys-token", &token);
        host.agent(&["enrol"]).run().expect(0);
        assert_eq!(host.key("role").unwrap(), "db");
    }
    let tags = json!(["prod", "eu-west", "web", "shard-3"]);
    let agents = hub.agents();
    assert_eq!(agents.len(), 2);
    assert!(agents.iter().all(|agent| agent["tags"] == tags));
}

#[test]
fn a_token_is_never_stored_in_an_image() {
    let (hub, image) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    image
        .enrol_with(&hub, &token, &["--defer"])
        .run()
        .expect(0)
        .expect_stderr(&["MONSYS_TOKEN is not stored"]);
    for (path, bytes) in image.files("") {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains(&token), "{}", path.display());
    }
}

#[test]
fn an_enrolled_host_cannot_be_prepared_as_an_image() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.enrol(&hub, &hub.token()).run().expect(0);
    let before = host.files("");
    host.agent(&["enrol", "--defer"])
        .run()
        .expect(64)
        .expect_stderr(&[
            "must not carry an identity",
            "agent-signing.key",
            "agent.toml",
            "rm ",
        ]);
    assert_eq!(host.files(""), before);
}

#[test]
fn settings_of_the_first_boot_are_stored() {
    let (hub, image) = (TestHub::new(), TestHost::new());
    image
        .enrol_with(&hub, "", &["--defer", "--token-command", "cat run/secret"])
        .env("MONSYS_SPLAY", "2m")
        .run()
        .expect(0);
    assert_eq!(image.key("splay").unwrap(), "2m");
    image.write_file("run/secret", &hub.token());
    image
        .agent(&["enrol", "--splay", "0s"])
        .env("PATH", "/usr/bin:/bin")
        .run()
        .expect(0);

    let image = TestHost::new();
    image
        .enrol_with(&hub, "", &["--defer", "--token-file", "run/secret"])
        .run()
        .expect(0);
    assert_eq!(image.key("token_file").unwrap(), "/run/secret");
}

#[test]
fn a_defer_beside_an_enrolment_does_not_damage_it() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    // The first run has the lock while the hub is slow; the second one waits for the lock.
    hub.fault(json!({"route": "enrol", "delay_ms": 500}));
    let first = host.enrol(&hub, &hub.token()).start();
    while !host.path("var/lib/monsys/lock").exists() {
        std::thread::yield_now();
    }
    let image = host.agent(&["enrol", "--defer", "--tag", "image"]).run();
    Run::of(first).expect(0);
    // The second run has preserved the result of the first one.
    if image.code == 0 {
        assert_eq!(
            host.key("tags").unwrap(),
            r#"["prod", "eu-west", "web", "image"]"#
        );
    } else {
        image
            .expect(64)
            .expect_stderr(&["must not carry an identity"]);
    }
    host.agent(&["status"]).run().expect(0);
    hub.expect_one_slot();
}

#[test]
fn the_proxy_of_this_run_is_stored_for_the_service() {
    let image = TestHost::new();
    let run = image
        .agent(&[
            "enrol",
            "--defer",
            "--hub-url",
            "https://hub.example.com",
            "-vvv",
        ])
        .env(
            "HTTPS_PROXY",
            "http://ada:verysecret@proxy.example.com:3128",
        )
        .env("NO_PROXY", "10.0.0.0/8,.example.org")
        .run()
        .expect(0);
    assert!(!format!("{}{}", run.stdout, run.stderr).contains("verysecret"));
    assert_eq!(
        image.key("https_proxy").unwrap(),
        "http://ada:verysecret@proxy.example.com:3128/"
    );
    assert_eq!(image.key("no_proxy").unwrap(), "10.0.0.0/8,.example.org");
    assert_eq!(image.mode("etc/monsys/agent.toml"), 0o600);
}
