use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::io::{Read, Write};

use super::*;

const TOKEN: &str = "enrl_Zq3vN8sK1xTfB6yR0uWm4cHd7pLj2gAe";
const GONE: &str = "enrl_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

fn scrubbed(bytes: &[u8]) -> Vec<u8> {
    let mut after = bytes.to_vec();
    assert!(layers::visit(&mut after, &mut |layer| blot_out(
        layer,
        TOKEN.as_bytes()
    )));
    assert_eq!(after.len(), bytes.len());
    assert!(has_token(bytes) && !has_token(&after));
    after
}

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut content).unwrap();
    content
}

fn user_data() -> String {
    format!("#cloud-config\nwrite_files:\n- content: MONSYS_TOKEN={TOKEN}\n  path: /run/x\n")
}

#[test]
fn plain_text_keeps_all_but_the_token() {
    let text = format!("a {TOKEN}, {TOKEN}\nb");
    let expected = format!("a {GONE}, {GONE}\nb");
    assert_eq!(scrubbed(text.as_bytes()), expected.as_bytes());
}

#[test]
fn base64_is_scrubbed_at_each_alignment_and_across_lines() {
    for shift in 0..3 {
        for (lead, end) in [("", ""), ("content: ", "\n"), ("ab/", "=")] {
            let text = format!("{}{}", "#".repeat(shift), user_data());
            let mut code = BASE64_STANDARD.encode(&text);
            code.truncate(code.trim_end_matches('=').len());
            let wrapped: Vec<&str> = code
                .as_bytes()
                .chunks(76)
                .map(|line| std::str::from_utf8(line).unwrap())
                .collect();
            for line_break in ["", "\n", "\r\n", "\\n"] {
                let file = format!("{lead}{}{end}", wrapped.join(line_break));
                let after = String::from_utf8(scrubbed(file.as_bytes())).unwrap();
                assert!(after.starts_with(lead) && after.ends_with(end));
                let code = after[lead.len()..after.len() - end.len()].replace(line_break, "");
                let padded = format!("{code}{}", "=".repeat((4 - code.len() % 4) % 4));
                let text = String::from_utf8(BASE64_STANDARD.decode(padded).unwrap()).unwrap();
                assert!(text.contains(GONE), "{text}");
            }
        }
    }
}

#[test]
fn a_gzip_inside_of_a_pickle_stays_readable() {
    // Level 0 stores the text as it is.
    for level in [0, 1, 6, 9] {
        let inside = gzip(user_data().as_bytes(), level);
        let file = [b"\x80\x04B\x10\0\0\0", inside.as_slice(), b"\x94."].concat();
        let after = scrubbed(&file);
        assert_eq!(after[..7], file[..7]);
        assert_eq!(after[after.len() - 2..], file[file.len() - 2..]);
        let content = gunzip(&after[7..7 + inside.len()]);
        assert_eq!(content, user_data().replace(TOKEN, GONE).as_bytes());
    }
}

#[test]
fn layers_in_layers_are_scrubbed() {
    let part = BASE64_STANDARD.encode(user_data());
    let message = format!("MIME-Version: 1.0\n\n{part}\n--x--\n");
    let file = BASE64_STANDARD.encode(gzip(message.as_bytes(), 9));
    let after = scrubbed(file.as_bytes());
    let message = gunzip(&BASE64_STANDARD.decode(after).unwrap());
    let message = String::from_utf8(message).unwrap();
    let part = message.lines().nth(2).unwrap();
    let text = String::from_utf8(BASE64_STANDARD.decode(part).unwrap()).unwrap();
    assert_eq!(text, user_data().replace(TOKEN, GONE));
}

#[test]
fn a_broken_archive_and_a_word_about_tokens_are_left_alone() {
    let text = user_data() + &user_data();
    let mut archive = gzip(text.repeat(20).as_bytes(), 9);
    archive.truncate(archive.len() - 1);
    for bytes in [
        archive.as_slice(),
        b"MONSYS_TOKEN=enrl_...",
        GONE.as_bytes(),
    ] {
        let mut after = bytes.to_vec();
        let changed = layers::visit(&mut after, &mut |layer| blot_out(layer, TOKEN.as_bytes()));
        assert!(!changed && after == bytes && !has_token(bytes));
    }
}
