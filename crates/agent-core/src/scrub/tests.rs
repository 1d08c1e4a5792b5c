use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;

use ::base64::Engine;
use ::base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::*;

const TOKEN: &str = "enrl_Zq3vN8sK1xTfB6yR0uWm4cHd7pLj2gAe";
const GONE: &str = "enrl_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// A file in a folder of its own.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new(bytes: &[u8]) -> Self {
        let scratch = Self(tempfile::tempdir().unwrap());
        fs::File::create_new(scratch.path())
            .unwrap()
            .write_all(bytes)
            .unwrap();
        scratch
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("file")
    }

    fn scrub(&self) -> (Fate, Vec<u8>) {
        let fate = file(&self.path(), &Wanted::secret(TOKEN));
        (fate, fs::read(self.path()).unwrap())
    }
}

/// What becomes of a file that is scrubbed in its place.
#[track_caller]
fn scrubbed(bytes: &[u8]) -> Vec<u8> {
    let scratch = Scratch::new(bytes);
    let inode = fs::metadata(scratch.path()).unwrap().ino();
    let (fate, after) = scratch.scrub();
    assert_eq!(fate, Fate::Scrubbed);
    assert_eq!(after.len(), bytes.len());
    assert_eq!(fs::metadata(scratch.path()).unwrap().ino(), inode);
    assert_eq!(scratch.scrub(), (Fate::Clean, after.clone()));
    assert!(has_token(bytes) && !has_token(&after));
    after
}

#[track_caller]
fn expect(text: &str) {
    let after = scrubbed(text.as_bytes());
    assert_eq!(String::from_utf8(after).unwrap(), text.replace(TOKEN, GONE));
}

#[track_caller]
fn expect_untouched(bytes: &[u8], fate: &Fate) {
    let (is, after) = Scratch::new(bytes).scrub();
    assert_eq!(&is, fate);
    assert_eq!(after, bytes);
}

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    MultiGzDecoder::new(bytes)
        .read_to_end(&mut content)
        .unwrap();
    content
}

fn user_data() -> String {
    format!("#cloud-config\nwrite_files:\n- content: MONSYS_TOKEN={TOKEN}\n  path: /run/x\n")
}

/// Text that packs badly.
fn noise(length: usize) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let word = |_| {
        let letters = std::iter::repeat_with(|| random.lowercase());
        letters.take(7).chain([' ']).collect::<String>()
    };
    (0..length / 8).map(word).collect()
}

/// Each way to break base64 into lines.
fn lines(code: &str, line_break: &str) -> String {
    let lines = code.as_bytes().chunks(76);
    let lines: Vec<_> = lines
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    lines.join(line_break)
}

#[test]
fn plain_text_keeps_all_but_the_token() {
    expect(&format!("a {TOKEN}, {TOKEN}\nb"));
}

#[test]
fn base64_is_scrubbed_at_each_alignment_and_across_lines() {
    for shift in 0..3 {
        for (lead, end) in [("", ""), ("content: ", "\n"), ("ab/", "=")] {
            let text = format!("{}{}", "#".repeat(shift), user_data());
            let mut code = BASE64_STANDARD.encode(&text);
            code.truncate(code.trim_end_matches('=').len());
            for line_break in [
                "", "\n", "\r\n", "\\n", "\\\\n", "\n    ", " \n\t", "\\\n  ",
            ] {
                let file = format!("{lead}{}{end}", lines(&code, line_break));
                let after = String::from_utf8(scrubbed(file.as_bytes())).unwrap();
                assert!(after.starts_with(lead) && after.ends_with(end));
                let code = after[lead.len()..after.len() - end.len()].replace(line_break, "");
                let padded = format!("{code}{}", "=".repeat((4 - code.len() % 4) % 4));
                let decoded = String::from_utf8(BASE64_STANDARD.decode(padded).unwrap()).unwrap();
                assert_eq!(decoded, text.replace(TOKEN, GONE));
            }
        }
    }
}

#[test]
fn a_word_behind_base64_is_not_its_end() {
    for shift in 0..3 {
        let code = BASE64_STANDARD.encode(format!("{}{}", "#".repeat(shift), user_data()));
        let code = code.trim_end_matches('=');
        let file = format!("content: {code}\npermissions: '0600'\nowner: root\n");
        let after = String::from_utf8(scrubbed(file.as_bytes())).unwrap();
        let tail = &after[after.find('\n').unwrap()..];
        assert_eq!(tail, "\npermissions: '0600'\nowner: root\n");
    }
}

#[test]
fn other_ways_to_write_it_are_known() {
    let url = BASE64_URL_SAFE_NO_PAD.encode(format!("????>>>>{TOKEN}~~~"));
    let after = scrubbed(url.as_bytes());
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(after).unwrap();
    assert_eq!(decoded, format!("????>>>>{GONE}~~~").as_bytes());

    let quoted = format!(
        "a=3D{}=\n{}=\r\n{}, =5F",
        &TOKEN[..9],
        &TOKEN[9..20],
        &TOKEN[20..]
    );
    let expected = format!(
        "a=3D{}=\n{}=\r\n{}, =5F",
        &GONE[..9],
        &GONE[9..20],
        &GONE[20..]
    );
    assert_eq!(scrubbed(quoted.as_bytes()), expected.as_bytes());

    let escaped = format!(r#"{{"a": "\u0065nrl_\u005aq3v{}"}}"#, &TOKEN[9..]);
    let expected = format!(r#"{{"a": "\u0065nrl_\u0078xxx{}"}}"#, &GONE[9..]);
    assert_eq!(scrubbed(escaped.as_bytes()), expected.as_bytes());

    for is_le in [true, false] {
        let utf16 = |text: &str| -> Vec<u8> {
            let unit = |unit: u16| {
                if is_le {
                    unit.to_le_bytes()
                } else {
                    unit.to_be_bytes()
                }
            };
            text.encode_utf16().flat_map(unit).collect()
        };
        let text = format!("\u{feff}Größe; {}", user_data());
        assert_eq!(scrubbed(&utf16(&text)), utf16(&text.replace(TOKEN, GONE)));
    }
}

#[test]
fn layers_in_layers_are_scrubbed() {
    let part = BASE64_STANDARD.encode(user_data());
    let message = format!("MIME-Version: 1.0\n\n{part}\n--x--\n");
    let code = lines(&BASE64_STANDARD.encode(gzip(message.as_bytes(), 9)), "\n");
    let inner = serde_json::json!({"user-data": code}).to_string();
    let file = serde_json::json!({"ds": inner, "other": "värde"}).to_string();
    let after: serde_json::Value = serde_json::from_slice(&scrubbed(file.as_bytes())).unwrap();
    assert_eq!(after["other"], "värde");
    let inner: serde_json::Value = serde_json::from_str(after["ds"].as_str().unwrap()).unwrap();
    let code = inner["user-data"].as_str().unwrap().replace('\n', "");
    let message = String::from_utf8(gunzip(&BASE64_STANDARD.decode(code).unwrap())).unwrap();
    let part = message.lines().nth(2).unwrap();
    let text = String::from_utf8(BASE64_STANDARD.decode(part).unwrap()).unwrap();
    assert_eq!(text, user_data().replace(TOKEN, GONE));
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
fn a_packed_log_is_written_anew_and_loses_nothing() {
    for (size, level) in [(0, 9), (60_000, 9), (60_000, 0), (700_000, 6)] {
        let text = format!("{}{}{}", noise(size), user_data(), noise(size / 3));
        // Two members, as from `gzip >>`.
        let packed = [gzip(text.as_bytes(), level), gzip(b"more", level)].concat();
        let scratch = Scratch::new(&packed);
        let before = fs::metadata(scratch.path()).unwrap();
        let (fate, after) = scratch.scrub();
        assert_eq!(fate, Fate::Scrubbed);
        let expected = text.replace(TOKEN, GONE) + "more";
        assert!(
            gunzip(&after) == expected.as_bytes(),
            "{size} bytes, level {level}"
        );
        let there = fs::metadata(scratch.path()).unwrap();
        assert_eq!(there.mtime_nsec(), before.mtime_nsec());
        assert_eq!(there.mode(), before.mode());
        assert_eq!(fs::read_dir(scratch.0.path()).unwrap().count(), 1);
        assert_eq!(scratch.scrub().0, Fate::Clean);
    }
}

#[test]
fn a_packed_log_with_a_second_name_is_packed_anew_where_it_is() {
    let text = noise(5_000) + TOKEN;
    let packed = gzip(text.as_bytes(), 9);
    let scratch = Scratch::new(&packed);
    fs::hard_link(scratch.path(), scratch.0.path().join("other")).unwrap();
    let (fate, after) = scratch.scrub();
    assert_eq!((fate, after.len()), (Fate::Scrubbed, packed.len()));
    assert_eq!(gunzip(&after), text.replace(TOKEN, GONE).as_bytes());
    assert_eq!(fs::read(scratch.0.path().join("other")).unwrap(), after);
}

#[test]
fn a_gzip_that_does_not_fit_its_room_is_left_and_named() {
    // Packed by a better packer than ours, the text around takes all the room.
    let packed = gzip(format!("{}{TOKEN}", noise(120_000)).as_bytes(), 9);
    let mut document = b"\x80\x04B".to_vec();
    document.extend_from_slice(&packed);
    let scratch = Scratch::new(&document);
    let (fate, after) = scratch.scrub();
    match fate {
        Fate::Scrubbed => assert!(!has_token(&after)),
        Fate::Left(cause) => {
            assert!(cause.contains("gzip data"), "{cause}");
            assert_eq!(after, document);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_the_token_is_left_alone() {
    let text = user_data() + &user_data();
    for bytes in [
        b"MONSYS_TOKEN=enrl_...".as_slice(),
        GONE.as_bytes(),
        text.replace("Ae", "Af").as_bytes(),
        &TOKEN.as_bytes()[..TOKEN.len() - 1],
        b"",
    ] {
        expect_untouched(bytes, &Fate::Clean);
    }
}

#[test]
fn a_broken_archive_is_named_and_not_changed() {
    let text = noise(100_000) + &user_data();
    for cut in [1, 4, 9] {
        let mut archive = gzip(text.as_bytes(), 6);
        archive.truncate(archive.len() - cut);
        let scratch = Scratch::new(&archive);
        let (fate, after) = scratch.scrub();
        assert!(
            matches!(&fate, Fate::Left(cause) if cause.contains("broken off")),
            "{fate:?}"
        );
        assert_eq!(after, archive);
    }
    // What only begins like one is a document.
    let document = [b"\x1f\x8b\x08".as_slice(), TOKEN.as_bytes()].concat();
    let after = scrubbed(&document);
    assert_eq!(after[3..], *GONE.as_bytes());
}

#[test]
fn a_token_across_windows_is_found_wherever_it_is() {
    for at in [0, (2 << 20) - 1, (2 << 20) - (64 << 10) - 3, 3 << 20] {
        let mut bytes = vec![b'.'; 3 << 20];
        bytes.splice(at..at, TOKEN.bytes());
        let mut expected = bytes.clone();
        expected[at..at + GONE.len()].copy_from_slice(GONE.as_bytes());
        assert!(scrubbed(&bytes) == expected, "at {at}");
    }
    // A line of base64 that is longer than a window.
    let text = format!("{}{TOKEN}{}", ".".repeat(1_600_001), ".".repeat(500_000));
    let after = scrubbed(BASE64_STANDARD.encode(&text).as_bytes());
    assert!(BASE64_STANDARD.decode(after).unwrap() == text.replace(TOKEN, GONE).as_bytes());
}

#[test]
fn an_archive_across_the_end_of_a_window_is_seen_whole() {
    let packed = gzip(noise(100_000).as_bytes(), 9);
    let member = gzip(user_data().as_bytes(), 9);
    for lead in [(2 << 20) - 20, (2 << 20) - member.len() / 2, (2 << 20) - 3] {
        let mut document = vec![b'.'; lead];
        document.extend_from_slice(&member);
        document.extend_from_slice(&packed);
        let after = scrubbed(&document);
        let content = gunzip(&after[lead..]);
        assert!(content.starts_with(user_data().replace(TOKEN, GONE).as_bytes()));
    }
}

#[test]
fn other_archives_are_searched_and_named() {
    let run = |program: &str, arguments: &[&str], text: &str| {
        let mut child = std::process::Command::new(program)
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .ok()?;
        let mut input = child.stdin.take().unwrap();
        let text = text.to_owned();
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        Some(output.stdout)
    };
    let mut count = 0;
    for (program, arguments, word) in [
        ("xz", &["-c"][..], "xz data"),
        ("bzip2", &["-c"], "bzip2 data"),
        ("zstd", &["-c"], "zstd data"),
        ("zstd", &["-19", "-c"], "zstd data"),
        ("xz", &["-9", "-c"], "memory"),
    ] {
        let text = noise(400_000) + &user_data();
        let Some(packed) = run(program, arguments, &text) else {
            continue;
        };
        count += 1;
        let document = [b"a document with ".as_slice(), &packed].concat();
        for bytes in [&packed, &document] {
            let scratch = Scratch::new(bytes);
            let (fate, after) = scratch.scrub();
            assert!(
                matches!(&fate, Fate::Left(cause) if cause.contains(word)),
                "{program}: {fate:?}"
            );
            assert!(after == *bytes);
        }
        if word != "memory" {
            let clean = run(program, arguments, &noise(400_000)).unwrap();
            expect_untouched(&clean, &Fate::Clean);
            expect_untouched(&[clean.clone(), clean].concat(), &Fate::Clean);
        }
    }
    assert!(count > 0, "none of xz, bzip2 and zstd is there");
}
