//! A client certificate of Mimir is checked before it is stored.

use std::fs;

use serde_json::json;

use crate::common::{TestHost, TestHub};
use crate::mimir::{agents, enrol, file, mint, openssl, uses};

#[test]
fn a_certificate_is_checked_before_it_is_stored() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    for (rules, cause) in [
        (
            json!({"lifetime_secs": 60, "age_secs": 120}),
            "the certificate expired at ",
        ),
        (
            json!({"lifetime_secs": 7200, "age_secs": -3600}),
            "the certificate is valid from ",
        ),
    ] {
        hub.post("mimir/certificates", rules);
        let run = enrol(&host, &hub, &secret).run().expect(76);
        run.expect_stderr(&[
            cause,
            "the server's clock says",
            "operator of the server",
            "the key stays",
        ]);
        assert!(!host.path("etc/mimir/client.pem").exists());
    }
    hub.post("mimir/certificates", json!({"lifetime_secs": 7200}));
    let other = TestHost::new();
    let (others, _) = mint(&hub, None);
    enrol(&other, &hub, &others).run().expect(0);
    let theirs = json!({
        "agent_id": "x",
        "certificate_pem": file(&other, "client.pem"),
        "ca_pem": file(&other, "ca.pem"),
    });
    for (body, cause) in [
        (theirs, "for another key than this host's"),
        (
            json!({"agent_id": "x", "certificate_pem": "", "ca_pem": ""}),
            "it holds no PEM certificate",
        ),
        (
            json!({"agent_id": "", "certificate_pem": "", "ca_pem": ""}),
            "`agent_id` is not",
        ),
        (json!({"agent_id": "x"}), "lacks a field"),
    ] {
        hub.fault(json!({"route": "mimir-enroll", "body": body.to_string()}));
        enrol(&host, &hub, &secret)
            .run()
            .expect(76)
            .expect_stderr(&[cause]);
        assert!(!host.path("etc/mimir/client.pem").exists());
    }
    enrol(&host, &hub, &secret).run().expect(0);
    assert_eq!((agents(&hub).len(), uses(&hub).as_str()), (2, "1 / 1"));
}

/// Returns a certificate that openssl(1) issues for the host's key, with the CA.
fn issued(host: &TestHost, arguments: &[&str]) -> (String, String) {
    let folder = host.path("srv/ca");
    fs::create_dir_all(&folder).unwrap();
    let new = [
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let subject = [
        "-keyout", "ca.key", "-subj", "/CN=CA", "-x509", "-out", "ca.pem",
    ];
    openssl(&folder, &[&new[..], &subject].concat());
    let key = host.path("etc/mimir/client.key");
    let key = key.to_str().unwrap();
    openssl(
        &folder,
        &["req", "-new", "-key", key, "-subj", "/CN=x", "-out", "csr"],
    );
    let sign = [
        "x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out", "cert",
    ];
    openssl(&folder, &[&sign[..], arguments].concat());
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    (read("cert"), read("ca.pem"))
}

#[test]
fn a_certificate_that_does_not_fit_is_explained_and_costs_no_second_slot() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mint(&hub, Some(1));
    // The first run makes the key, and loses its slot to a response that is garbage.
    let garbage = json!({"agent_id": "x", "certificate_pem": "garbage", "ca_pem": "garbage"});
    hub.fault(json!({"route": "mimir-enroll", "body": garbage.to_string()}));
    let run = enrol(&host, &hub, &secret).run().expect(76);
    run.expect_stderr(&["certificate", "in PEM", "the key stays"]);
    let key = file(&host, "client.key");
    let (version_1, ca) = issued(&host, &["-set_serial", "1"]);
    host.write_file("srv/ca/server", "extendedKeyUsage=serverAuth\n");
    host.write_file("srv/ca/client", "extendedKeyUsage=clientAuth\n");
    let (for_servers, servers_ca) = issued(&host, &["-extfile", "server"]);
    let (good, _) = issued(&host, &["-extfile", "client"]);
    for (certificate, ca, cause, hint) in [
        (&version_1, &ca, "version 1", "version 3 certificates"),
        (
            &for_servers,
            &servers_ca,
            "not meant for clients",
            "clientAuth",
        ),
        (&good, &ca, "does not come from the CA", "`ca_pem`"),
    ] {
        let body = json!({"agent_id": "x", "certificate_pem": certificate, "ca_pem": ca});
        hub.fault(json!({"route": "mimir-enroll", "body": body.to_string()}));
        let run = enrol(&host, &hub, &secret).run().expect(76);
        let run = run.expect_stderr(&[cause, hint, "no second use"]);
        assert!(!run.stderr.contains("timedatectl"), "{}", run.stderr);
        assert!(!host.path("etc/mimir/client.pem").exists());
    }
    assert_eq!(file(&host, "client.key"), key);
    enrol(&host, &hub, &secret).run().expect(0);
    assert_eq!((agents(&hub).len(), uses(&hub).as_str()), (1, "1 / 1"));
}
