//! logrotate, in each of its modes, beside enrolments that scrub the log: only the bytes of the token change,
//! and no line is lost that logrotate itself does not lose.
//!
//! `LOG_ROTATION_ROUNDS` is the number of enrolments in each mode.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;

use flate2::read::MultiGzDecoder;

use crate::common::{TestHost, TestHub};

const LOG: &str = "var/log/cloud-init-output.log";
const LOGROTATE: &str = "/usr/sbin/logrotate";
/// Enrolments in each mode.
const ROUNDS: u32 = 3;
/// Most runs of logrotate beside each enrolment: otherwise logrotate makes files faster than a slow machine can
/// search them.
const ROTATIONS: u32 = 6;
/// Lines before the first rotation, so that a run searches the log for some time.
const LINES_BEFORE: u32 = 2_000;
/// Lines that are written while logrotate runs once.
const LINES: u32 = 20;

/// A mode of logrotate.
struct Mode {
    directives: &'static str,
    /// logrotate creates the new log, and its writer only opens it.
    creates: bool,
    /// A line is in one file; otherwise in each copy.
    moves: bool,
    /// logrotate itself may lose a line: between its copy and its truncation, or during compression.
    loses: bool,
}

impl Mode {
    const fn of(directives: &'static str) -> Self {
        Self {
            directives,
            creates: true,
            moves: true,
            loses: false,
        }
    }
}

fn modes() -> Vec<Mode> {
    let of = Mode::of;
    vec![
        of("create\nrotate 1000"),
        Mode {
            creates: false,
            ..of("nocreate\nrotate 1000")
        },
        of("create\nrotate 1000\ndateext\ndateformat -%Y%m%d-%s"),
        Mode {
            loses: true,
            ..of("create\nrotate 1000\ncompress")
        },
        Mode {
            loses: true,
            ..of("create\nrotate 1000\ncompress\ndelaycompress")
        },
        Mode {
            loses: true,
            ..of("copytruncate\nrotate 1000")
        },
        Mode {
            loses: true,
            ..of("copytruncate\nrotate 1000\ncompress")
        },
        Mode {
            moves: false,
            ..of("copy\nrotate 3")
        },
    ]
}

/// Returns a line of the log: numbered, with different content each, and the token in some.
fn line(number: u32, token: &str) -> String {
    let sum = number.wrapping_mul(2_654_435_761);
    match number % 7 {
        3 => format!("{number:07} + MONSYS_TOKEN={token} sh install.sh {sum:08x}\n"),
        _ => format!(
            "{number:07} {} {sum:08x}\n",
            "setting up things ".repeat((number % 4) as usize)
        ),
    }
}

/// Appends the line in one write, as cloud-init's shell does.
fn append(log: &Path, text: &str, creates: bool) {
    loop {
        let file = OpenOptions::new().append(true).create(!creates).open(log);
        match file {
            Ok(mut file) => return file.write_all(text.as_bytes()).unwrap(),
            // logrotate is about to create it.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
        std::thread::yield_now();
    }
}

/// Returns the log and the rotated files as text.
fn texts(host: &TestHost) -> Vec<(String, String)> {
    let files = host.files("var/log").into_iter().map(|(path, bytes)| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut text = bytes;
        if path.extension().is_some_and(|extension| extension == "gz") {
            let packed = std::mem::take(&mut text);
            MultiGzDecoder::new(&packed[..])
                .read_to_end(&mut text)
                .unwrap_or_else(|error| panic!("{name} of {} bytes: {error}", packed.len()));
        }
        let text = String::from_utf8(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, text)
    });
    files.collect()
}

/// Checks that each line is unchanged except for the token, and in as many files as the mode makes.
fn expect_unharmed(host: &TestHost, mode: &Mode, written: u32, token: &str) {
    let blank = format!("enrl_{}", "x".repeat(token.len() - "enrl_".len()));
    let mut found = BTreeMap::new();
    for (name, text) in texts(host) {
        assert!(
            text.is_empty() || text.ends_with('\n'),
            "{name} ends in half a line"
        );
        for got in text.split_inclusive('\n') {
            let number = got.split(' ').next().and_then(|number| number.parse().ok());
            let is_complete = number.is_some_and(|number| {
                let own = line(number, token);
                got == own || got == own.replace(token, &blank)
            });
            assert!(is_complete, "{}, {name}: {got:?}", mode.directives);
            *found.entry(number.unwrap()).or_insert(0) += 1;
        }
    }
    let missing: Vec<u32> = (0..written)
        .filter(|number| !found.contains_key(number))
        .collect();
    assert!(
        mode.loses || missing.is_empty(),
        "{}: {missing:?}",
        mode.directives
    );
    assert!(
        missing.len() < written as usize / 2,
        "{}: {} of {written}",
        mode.directives,
        missing.len()
    );
    let twice: Vec<_> = found.iter().filter(|(_, count)| **count > 1).collect();
    assert!(
        !mode.moves || twice.is_empty(),
        "{}: {twice:?}",
        mode.directives
    );
}

/// Rotates and writes while enrolments run; returns the number of lines.
fn rotate_beside(hub: &TestHub, host: &TestHost, mode: &Mode, token: &str, rounds: u32) -> u32 {
    let log = host.path(LOG);
    let config = host.write_file(
        "etc/logrotate.conf",
        &format!("{} {{\nmissingok\n{}\n}}\n", log.display(), mode.directives),
    );
    fs::set_permissions(&config, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let state = host.path("logrotate.state");
    let (turn, turns) = sync_channel::<()>(1);
    let (grant, granted) = sync_channel::<()>(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut number = LINES_BEFORE;
            for () in granted {
                for _ in 0..LINES {
                    append(&log, &line(number, token), mode.creates);
                    number += 1;
                }
            }
            number
        });
        let rotator = scope.spawn(|| {
            // Ends the writer as well.
            let grant = grant;
            for _ in turns.into_iter().flat_map(|()| 0..ROTATIONS) {
                grant.send(()).unwrap();
                let rotated = Command::new(LOGROTATE)
                    .args(["--force", "--state"])
                    .args([&state, &config])
                    .stderr(Stdio::null())
                    .status();
                rotated.unwrap();
            }
        });
        for _ in 0..rounds {
            turn.send(()).unwrap();
            let run = host
                .enrol_with(hub, token, &["--scrub-cloud-init", "yes"])
                .run();
            // 74: a file that changes continuously is named instead.
            assert!([0, 74].contains(&run.code), "{run:?}");
        }
        drop(turn);
        rotator.join().unwrap();
        writer.join().unwrap()
    })
}

#[test]
fn logrotate_beside_the_scrubber_loses_no_byte() {
    let rounds = std::env::var("LOG_ROTATION_ROUNDS");
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    assert!(Path::new(LOGROTATE).exists(), "needs logrotate");
    // Otherwise logrotate removes the oldest.
    assert!(rounds * ROTATIONS < 1000, "{rounds} rounds are too many");
    for mode in modes() {
        let hub = TestHub::new();
        let token = hub.token();
        let host = TestHost::new();
        let before: String = (0..LINES_BEFORE)
            .map(|number| line(number, &token))
            .collect();
        host.write_file(LOG, &before);
        let written = rotate_beside(&hub, &host, &mode, &token, rounds);
        expect_unharmed(&host, &mode, written, &token);
        let rotated = host.names("var/log").len();
        assert!(rotated > 1, "{}: nothing was rotated", mode.directives);

        // After the last rotation, the token is removed or its file is named.
        let last = host
            .enrol_with(&hub, &token, &["--scrub-cloud-init", "yes"])
            .run();
        assert!([0, 74].contains(&last.code), "{last:?}");
        for (name, text) in texts(&host) {
            let is_named = last.code == 74 && last.stderr.contains(&name);
            assert!(
                is_named || !text.contains(&token),
                "{}: {name}",
                mode.directives
            );
        }
        expect_unharmed(&host, &mode, written, &token);
        hub.expect_one_slot();
    }
}
