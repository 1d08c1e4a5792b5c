//! Redirects of a mirror: none from https to http is followed.

use serde_json::json;

use crate::fixture::Fixture;
use crate::release::binary;
use crate::script::http_mirror;

#[test]
#[ignore = "needs root: mounts an overlay"]
fn no_redirect_leads_from_https_to_http() {
    for gone in ["wget", "curl"] {
        let mut fixture = Fixture::new();
        fixture.machine.remove_program(gone);
        fixture.before = fixture.machine.changes();
        let plain = http_mirror(&fixture.release);
        fixture.hub.fault(json!({
            "route": "dist",
            "times": 20,
            "status": 302,
            "location": format!("{}/dist/{}", plain.url(), binary()),
        }));
        println!("without {gone}");
        fixture.expect_failure(
            &[],
            69,
            &[
                "could not be downloaded",
                "the final address, MONSYS_DOWNLOAD_URL",
            ],
        );
    }
}

#[test]
#[ignore = "needs root: mounts an overlay"]
fn curl_follows_a_redirect_to_https_and_an_http_url_stays_http() {
    let fixture = Fixture::new();
    fixture.hub.fault(json!({
        "route": "dist",
        "times": 1,
        "status": 302,
        "location": format!("{}/dist/{}", fixture.hub.url(), binary()),
    }));
    fixture.install(&[]).expect(0);
    fixture.hub.expect_one_slot();

    for gone in ["wget", "curl"] {
        let fixture = Fixture::new();
        fixture.machine.remove_program(gone);
        let [first, second] = [(); 2].map(|()| http_mirror(&fixture.release));
        first.fault(json!({
            "route": "dist",
            "times": 1,
            "status": 302,
            "location": format!("{}/dist/{}", second.url(), binary()),
        }));
        let url = format!("{}/dist", first.url());
        fixture.install(&[("MONSYS_DOWNLOAD_URL", &url)]).expect(0);
        fixture.hub.expect_one_slot();
    }
}
