//! Redirects of a place to download from: from https, none to http is followed.

use serde_json::json;

use crate::failures::Scene;
use crate::release::binary;
use crate::script::plain_mirror;

#[test]
fn from_https_none_leads_to_http() {
    if !crate::can_make_machines() {
        return;
    }
    for gone in ["wget", "curl"] {
        let mut scene = Scene::new();
        scene.machine.without(gone);
        scene.before = scene.machine.changes();
        let plain = plain_mirror(&scene.release);
        scene.hub.fault(json!({
            "route": "dist",
            "times": 20,
            "status": 302,
            "location": format!("{}/dist/{}", plain.url(), binary()),
        }));
        println!("without {gone}");
        scene.fails(
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
fn curl_follows_one_to_https_and_whoever_names_http_gets_http() {
    if !crate::can_make_machines() {
        return;
    }
    let scene = Scene::new();
    scene.hub.fault(json!({
        "route": "dist",
        "times": 1,
        "status": 302,
        "location": format!("{}/dist/{}", scene.hub.url(), binary()),
    }));
    scene.install(&[]).expect(0);
    scene.hub.expect_one_slot();

    for gone in ["wget", "curl"] {
        let scene = Scene::new();
        scene.machine.without(gone);
        let [first, second] = [(); 2].map(|()| plain_mirror(&scene.release));
        first.fault(json!({
            "route": "dist",
            "times": 1,
            "status": 302,
            "location": format!("{}/dist/{}", second.url(), binary()),
        }));
        let url = format!("{}/dist", first.url());
        scene.install(&[("MONSYS_DOWNLOAD_URL", &url)]).expect(0);
        scene.hub.expect_one_slot();
    }
}
