//! What a secret may be packed in.

use monsys_agent::scrub::layers;

const NEEDLE: &[u8] = b"enrl_Zq3vN8sK";
const FILLED: &[u8] = b"enrl_xxxxxxxx";

/// Whatever the bytes are: their length stays, a needle in them is found and gone after one pass,
/// and a pass that finds none changes nothing.
pub fn layers(bytes: &[u8]) {
    let mut without = bytes.to_vec();
    if !scrub(&mut without) {
        assert_eq!(without, bytes);
    }
    let middle = bytes.len() / 2;
    let mut with = [&bytes[..middle], NEEDLE, &bytes[middle..]].concat();
    let length = with.len();
    assert!(scrub(&mut with), "not found");
    assert_eq!(with.len(), length);
    assert!(!with.windows(NEEDLE.len()).any(|part| part == NEEDLE));
}

fn scrub(bytes: &mut [u8]) -> bool {
    layers::visit(bytes, &mut |layer| {
        let mut found = false;
        while let Some(at) = layer.windows(NEEDLE.len()).position(|part| part == NEEDLE) {
            layer[at..at + NEEDLE.len()].copy_from_slice(FILLED);
            found = true;
        }
        found
    })
}
