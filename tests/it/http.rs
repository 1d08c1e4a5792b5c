//! Answers that an HTTP server of any kind may give: codings, plain texts, other connections.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use crate::common::{Run, TestHost};

const ACCEPTED: &str =
    r#"{"agent_id":"6f1c2a1e-8f0e-4a55-9a3c-0d8f5f3b7f10","agent_token":"agt_abcdef"}"#;

/// A server that answers the requests in order.
struct Canned {
    port: u16,
    requests: Receiver<Seen>,
}

/// A request that the server received.
struct Seen {
    /// Number of the connection, from zero.
    connection: usize,
    head: String,
}

impl Canned {
    fn new(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            let answers = Arc::new(Mutex::new(answers.into_iter()));
            for (connection, stream) in listener.incoming().flatten().enumerate() {
                let (answers, sender) = (Arc::clone(&answers), sender.clone());
                // The agent may keep a connection open while it opens another one.
                std::thread::spawn(move || serve(stream, connection, &answers, &sender));
            }
        });
        Self { port, requests }
    }

    fn enrol(&self, dialect: &[&str]) -> Run {
        let url = format!("http://127.0.0.1:{}", self.port);
        let host = TestHost::new();
        let arguments = ["enrol", "--wait", "0s", "--hub-url", &url];
        host.agent(&[&arguments, dialect].concat())
            .env(
                "MONSYS_TOKEN",
                "enrl_abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
            )
            .run()
    }
}

/// Answers the requests of one connection, until it is closed or no answer is left.
fn serve(
    mut stream: TcpStream,
    connection: usize,
    answers: &Mutex<impl Iterator<Item = Vec<u8>>>,
    seen: &Sender<Seen>,
) -> Option<()> {
    while let Some(head) = request(&mut stream) {
        seen.send(Seen { connection, head }).ok()?;
        stream.write_all(&answers.lock().unwrap().next()?).ok()?;
    }
    Some(())
}

/// Reads a request with its body, and returns its head in lower case.
fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some(head)
}

fn answer(status: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status}\r\n{fields}content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn json(status: &str, body: &str) -> Vec<u8> {
    answer(status, "content-type: application/json\r\n", body)
}

fn text(status: &str, body: &str) -> Vec<u8> {
    answer(status, "content-type: text/plain\r\n", body)
}

#[test]
fn no_coding_is_accepted_and_an_encoded_answer_is_named() {
    let packed = b"\x1f\x8b\x08\0\0\0\0\0";
    let encoded = |status| answer(status, "content-encoding: gzip\r\n", packed);
    let hub = Canned::new(vec![encoded("201 Created")]);
    hub.enrol(&[])
        .expect(76)
        .expect_stderr(&["is encoded with \"gzip\"", "`identity`"]);
    let seen = hub.requests.recv().unwrap();
    assert!(
        seen.head.contains("\r\naccept-encoding: identity\r\n"),
        "{}",
        seen.head
    );
    Canned::new(vec![encoded("400 Bad Request")])
        .enrol(&[])
        .expect(65)
        .expect_stderr(&["HTTP 400 Bad Request", "encoded with \"gzip\""]);
    let plain = "content-encoding: identity\r\ncontent-type: application/json\r\n";
    Canned::new(vec![answer("201 Created", plain, ACCEPTED)])
        .enrol(&[])
        .expect(0);
}

/// RFC 9110, section 15.5.20: the client may repeat the request over another connection.
#[test]
fn a_misdirected_request_is_sent_once_more_over_a_new_connection() {
    let misdirected = || answer("421 Misdirected Request", "", "");
    let hub = Canned::new(vec![misdirected(), json("201 Created", ACCEPTED)]);
    hub.enrol(&[]).expect(0);
    let connections: Vec<usize> = hub
        .requests
        .try_iter()
        .map(|seen| seen.connection)
        .collect();
    assert_eq!(connections, [0, 1]);
    Canned::new(vec![misdirected(), misdirected()])
        .enrol(&[])
        .expect(65)
        .expect_stderr(&["HTTP 421", "does not serve that name"]);
}

#[test]
fn a_refusal_is_shown_in_every_common_form() {
    for (body, shown) in [
        ("not \u{1b}[31mtoday\n", "it says: \"not \\u{1b}[31mtoday\""),
        (
            r#"{"error":{"code":"E1","message":"not today"}}"#,
            "it says: \"not today\"",
        ),
        (
            r#"{"errors":[{"detail":"not today"}]}"#,
            "it says: \"not today\"",
        ),
        (
            r#"{"title":"Bad","detail":"not today"}"#,
            "it says: \"not today\"",
        ),
        (
            r#"{"detail":[{"msg":"not today"}]}"#,
            "it says: \"not today\"",
        ),
        ("<!DOCTYPE html><p>not today", "an HTML page"),
    ] {
        for (status, code) in [("400 Bad Request", 65), ("403 Forbidden", 77)] {
            Canned::new(vec![text(status, body)])
                .enrol(&[])
                .expect(code)
                .expect_stderr(&[&status[..3], shown]);
        }
    }
    let long = "no ".repeat(100_000);
    let run = Canned::new(vec![text("400 Bad Request", &long)]).enrol(&[]);
    assert!(run.stderr.len() < 2000, "{}", run.stderr.len());
    // A text of a server in front of the hub. The hub's own 401 never differs.
    Canned::new(vec![text("401 Unauthorized", "log in at the gate")])
        .enrol(&[])
        .expect(77)
        .expect_stderr(&["never says which", "it says: \"log in at the gate\""]);
}

#[test]
fn a_used_up_secret_is_recognised_in_every_form() {
    for body in [
        r#"{"error":"secret_exhausted"}"#,
        r#"{"error":{"code":"secret_exhausted","message":"no uses left"}}"#,
        "secret_exhausted\n",
    ] {
        for (dialect, cause) in [
            (&[][..], "the token was used up"),
            (&["--dialect", "mimir"], "took the last use"),
        ] {
            Canned::new(vec![text("403 Forbidden", body)])
                .enrol(dialect)
                .expect(77)
                .expect_stderr(&[cause]);
        }
    }
    let says = "Community Edition only supports the built-in worker";
    Canned::new(vec![text("400 Bad Request", says)])
        .enrol(&["--dialect", "lyftdata", "--worker-name", "w"])
        .expect(65)
        .expect_stderr(&["Community Edition", "not licensed"]);
}

/// RFC 9110, section 15: an unknown status has the meaning of x00 of its class.
#[test]
fn the_hint_of_a_status_fits_it() {
    for (status, code, shown) in [
        ("521 ", 69, "a CDN or proxy sends such a status"),
        (
            "500 Internal Server Error",
            69,
            "read in the log of the hub",
        ),
        ("429 Too Many Requests", 69, "limits the requests"),
        ("501 Not Implemented", 65, "supports this version"),
        (
            "505 HTTP Version Not Supported",
            65,
            "supports this version",
        ),
        ("413 Content Too Large", 65, "at least 64 KiB"),
        ("405 Method Not Allowed", 65, "does not accept enrolments"),
    ] {
        Canned::new(vec![answer(status, "", "edge error")])
            .enrol(&[])
            .expect(code)
            .expect_stderr(&[&status[..3], "edge error", shown]);
    }
}
