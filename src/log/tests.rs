//! The lines of the log, byte for byte.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::io;

use super::*;

thread_local! {
    static WRITES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

#[expect(clippy::unnecessary_wraps, reason = "the type of the log's output")]
fn record(line: &[u8]) -> io::Result<()> {
    let line = String::from_utf8(line.to_vec()).unwrap();
    WRITES.with_borrow_mut(|writes| writes.push(line));
    Ok(())
}

/// Returns each write of the log while `events` runs.
fn writes(format: LogFormat, verbosity: i32, events: impl FnOnce()) -> Vec<String> {
    tracing::dispatcher::with_default(&dispatch(format, verbosity, record), events);
    WRITES.take()
}

#[track_caller]
fn text(verbosity: i32, events: impl FnOnce(), expected: &[&str]) {
    assert_eq!(writes(LogFormat::Text, verbosity, events), expected);
}

/// Compares the lines without their times, after checking the form of each time.
#[track_caller]
fn json(events: impl FnOnce(), expected: &[&str]) {
    let lines = writes(LogFormat::Json, 0, events);
    let rest: Vec<_> = lines.iter().map(|line| after_time(line)).collect();
    assert_eq!(rest, expected);
}

#[track_caller]
fn after_time(line: &str) -> &str {
    let line = line.strip_prefix(r#"{"timestamp":""#).unwrap();
    let (time, rest) = line.split_once('"').unwrap();
    let form: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(form, "0000-00-00T00:00:00.000000Z");
    humantime::parse_rfc3339(time).unwrap();
    serde_json::from_str::<serde_json::Value>(&format!("{{{}", &rest[1..])).unwrap();
    rest
}

fn all_levels() {
    tracing::error!("e");
    tracing::warn!("w");
    tracing::info!("i");
    tracing::debug!("d");
    tracing::trace!("t");
    tracing::info!(target: "agent_core::hub", "core");
    tracing::info!(target: "dialect_example", "dialect");
    tracing::warn!(target: "hyper_util::client", "library");
    tracing::warn!(target: "monsys", "another program");
}

#[test]
fn each_level_has_its_events() {
    text(-2, all_levels, &[]);
    text(-1, all_levels, &["ERROR e\n", " WARN w\n"]);
    let info = [
        "ERROR e\n",
        " WARN w\n",
        " INFO i\n",
        " INFO core\n",
        " INFO dialect\n",
    ];
    text(0, all_levels, &info);
    let debug = [&info[..3], &["DEBUG d\n"], &info[3..]].concat();
    text(1, all_levels, &debug);
    for verbosity in [2, 3] {
        text(
            verbosity,
            all_levels,
            &[
                "ERROR monsys_agent::log::tests: e\n",
                " WARN monsys_agent::log::tests: w\n",
                " INFO monsys_agent::log::tests: i\n",
                "DEBUG monsys_agent::log::tests: d\n",
                "TRACE monsys_agent::log::tests: t\n",
                " INFO agent_core::hub: core\n",
                " INFO dialect_example: dialect\n",
                " WARN hyper_util::client: library\n",
                " WARN monsys: another program\n",
            ],
        );
    }
}

#[test]
fn only_enabled_events_are_formatted() {
    for (verbosity, level) in [
        (-2, LevelFilter::OFF),
        (-1, LevelFilter::WARN),
        (0, LevelFilter::INFO),
        (1, LevelFilter::DEBUG),
        (2, LevelFilter::TRACE),
    ] {
        let dispatch = dispatch(LogFormat::Text, verbosity, record);
        tracing::dispatcher::with_default(&dispatch, || {
            assert_eq!(tracing::enabled!(tracing::Level::ERROR), verbosity > -2);
            assert_eq!(tracing::enabled!(tracing::Level::WARN), verbosity > -2);
            assert_eq!(tracing::enabled!(tracing::Level::INFO), verbosity > -1);
            assert_eq!(tracing::enabled!(tracing::Level::DEBUG), verbosity > 0);
            assert_eq!(tracing::enabled!(tracing::Level::TRACE), verbosity > 1);
            let others = tracing::enabled!(target: "rustls", tracing::Level::ERROR);
            assert_eq!(others, verbosity > 1);
            // Other dispatchers of this process may allow more.
            assert!(LevelFilter::current() >= level);
        });
    }
}

#[derive(Debug)]
struct Outer;

#[derive(Debug)]
struct Inner;

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("outer \u{1b}[1m")
    }
}

impl fmt::Display for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("inner \"x\"")
    }
}

impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&Inner)
    }
}

impl Error for Inner {}

fn fields() {
    tracing::info!(
        text = "a \"b\"\u{1b}\n",
        shown = %"a b",
        debugged = ?Some("x"),
        yes = true,
        below = -1,
        above = u64::MAX,
        half = 0.5,
        none = f64::NAN,
        long = i128::MIN,
        bytes = &b"\x01\xff"[..],
        r#type = 1,
        "a message of {}",
        3
    );
    tracing::info!(a.b = 1);
    tracing::info!(error = &Outer as &(dyn Error + 'static), "failed");
    tracing::info!(error = &Inner as &(dyn Error + 'static));
    tracing::info!(message = "a value", a = 1);
    tracing::info!(message = &Outer as &(dyn Error + 'static));
}

#[test]
fn fields_follow_the_message_in_text() {
    text(
        0,
        fields,
        &[
            " INFO a message of 3 text=\"a \\\"b\\\"\\u{1b}\\n\" shown=a b debugged=Some(\"x\") yes=true below=-1 above=18446744073709551615 half=0.5 none=NaN long=-170141183460469231731687303715884105728 bytes=[01 ff] type=1\n",
            " INFO a.b=1\n",
            " INFO failed error=outer \\x1b[1m error.sources=[inner \"x\"]\n",
            " INFO error=inner \"x\"\n",
            " INFO a value a=1\n",
            " INFO outer \\x1b[1m message.sources=[inner \"x\"]\n",
        ],
    );
}

#[test]
fn fields_are_members_in_json() {
    json(
        fields,
        &[
            r#","level":"INFO","message":"a message of 3","text":"a \"b\"\u001b\n","shown":"a b","debugged":"Some(\"x\")","yes":true,"below":-1,"above":18446744073709551615,"half":0.5,"none":null,"long":"-170141183460469231731687303715884105728","bytes":"[01 ff]","type":1,"target":"monsys_agent::log::tests"}
"#,
            r#","level":"INFO","a.b":1,"target":"monsys_agent::log::tests"}
"#,
            r#","level":"INFO","message":"failed","error":"outer \u001b[1m","target":"monsys_agent::log::tests"}
"#,
            r#","level":"INFO","error":"inner \"x\"","target":"monsys_agent::log::tests"}
"#,
            r#","level":"INFO","message":"a value","a":1,"target":"monsys_agent::log::tests"}
"#,
            r#","level":"INFO","message":"outer \u001b[1m","target":"monsys_agent::log::tests"}
"#,
        ],
    );
}

/// Control characters, invisible characters, a forged line, and tokens.
fn hostile() {
    tracing::warn!("a\u{1b}]0;PWN\u{7}\u{8}\u{c}\r\u{0}\u{7f}\u{9b}31m\u{202e}\u{200b}\u{feff}\té");
    tracing::warn!("first\nerror: forged\n        indented\r\n\n");
    tracing::warn!("token enrl_secret1 and agt_secret2");
    tracing::warn!(target: "agent_core::\u{202e}", key = "enrl_secret \u{202e}", "\\ \" / \u{e0041}");
}

#[test]
fn untrusted_text_is_cleaned_in_text() {
    text(
        0,
        hostile,
        &[
            " WARN a\\x1b]0;PWN\\x07\\x08\\x0c\\r\\u{0}\\x7f\\u{9b}31m\\u{202e}\\u{200b}\\u{feff}\té\n",
            " WARN first\n        error: forged\n        indented\\r\n",
            " WARN token enrl_[redacted] and agt_[redacted]\n",
            " WARN \\ \" / \\u{e0041} key=\"enrl_[redacted] \\u{202e}\"\n",
        ],
    );
}

#[test]
fn untrusted_text_is_cleaned_in_json() {
    json(
        hostile,
        &[
            r#","level":"WARN","message":"a\u001b]0;PWN\u0007\b\f\r\u0000\u007f\u009b31m\u202e\u200b\ufeff\té","target":"monsys_agent::log::tests"}
"#,
            r#","level":"WARN","message":"first\nerror: forged\n        indented\r\n\n","target":"monsys_agent::log::tests"}
"#,
            r#","level":"WARN","message":"token enrl_[redacted] and agt_[redacted]","target":"monsys_agent::log::tests"}
"#,
            r#","level":"WARN","message":"\\ \" / \udb40\udc41","key":"enrl_[redacted] \u202e","target":"agent_core::\u202e"}
"#,
        ],
    );
}

#[test]
fn a_closed_output_is_ignored() {
    let closed = |_: &[u8]| Err(io::ErrorKind::BrokenPipe.into());
    let dispatch = dispatch(LogFormat::Text, 0, closed);
    tracing::dispatcher::with_default(&dispatch, || tracing::info!("lost"));
}
