//! What the kernel, the firmware, cloud-init and the cloud say of a machine.

use agent_core::escape::is_hidden;
use agent_core::hub::client::Reply;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use monsys_agent::fuzzing;

const TOKEN: &[u8] = b"enrl_Zq3vN8sK";

/// All of them read the same text, each as its own file.
pub fn machine(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    ids(&text);
    traffic(&text);
    if let Some(name) = fuzzing::hostname(&text) {
        assert!(!name.is_empty() && name.len() <= 253, "{name:?}");
        assert!(!name.contains(is_hidden), "{name:?}");
        assert_eq!(fuzzing::hostname(&name).as_ref(), Some(&name));
    }
    let mut groups = text.into_owned();
    groups.push_str("\n0::/system.slice/cloud-final.service\n");
    assert!(fuzzing::is_run_by_cloud_init(&groups));
    metadata(bytes);
}

/// An id is a hash, which white space around the id does not change.
fn ids(text: &str) {
    let ids = fuzzing::machine_ids(text);
    assert_eq!(fuzzing::machine_ids(&format!(" {text}\n")), ids);
    for id in ids.iter().flatten() {
        assert!(
            id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{id}"
        );
        let hidden = text.trim();
        assert!(
            hidden.len() < 12 || !id.contains(hidden),
            "{id} holds what it hides"
        );
    }
    let [_, product, machine] = &ids;
    let [_, as_product, as_machine] = fuzzing::machine_ids(&text.to_ascii_uppercase());
    assert_eq!((product, machine), (&as_product, &as_machine));
}

/// The last line of a file is found, whatever is before it.
fn traffic(text: &str) {
    let with_last = format!("{text}\n zz9: 1 2 3 4 5 6 7 8 9 10\n");
    if !text.contains("zz9") {
        assert_eq!(fuzzing::traffic(&with_last, "zz9"), Some((1, 9)));
    }
    let _ = fuzzing::traffic(text, "eth0");
}

/// A token in user data is found, however a cloud packs it.
fn metadata(bytes: &[u8]) {
    let reply = |status, body: Vec<u8>| Reply {
        status,
        body: body.into(),
        ..Reply::default()
    };
    let middle = bytes.len() / 2;
    let data = [&bytes[..middle], TOKEN, &bytes[middle..]].concat();
    let encoded = STANDARD.encode(&data).into_bytes();
    let lines: Vec<u8> = encoded
        .chunks(76)
        .flat_map(|line| [line, b"\n"].concat())
        .collect();
    for (body, is_base64) in [
        (data.clone(), false),
        (encoded, true),
        (lines, true),
        // It says that it is base64, and is not.
        (data.clone(), true),
    ] {
        let found = fuzzing::metadata_holds_token(&reply(200, body), is_base64);
        assert_eq!(found, Some(true), "base64: {is_base64}");
    }
    for status in [404, 500] {
        assert_eq!(
            fuzzing::metadata_holds_token(&reply(status, data.clone()), false),
            None
        );
    }
    let plain = fuzzing::metadata_holds_token(&reply(200, bytes.to_vec()), false);
    assert!(plain.is_some());
}
