//! Slow and many clients: the hub still serves the others.

use crate::clients::{Agent, Caller, Host, hub_with};
use crate::program::{Running, program};
use crate::raw::exchange;
use mock_hub::{Hub, Limits, Options};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ENROL: &str = "POST /api/v1/agents/enrol HTTP/1.1\r\nHost: localhost\r\n\
                     Content-Type: application/json\r\n";
/// A time that no test reaches.
const NEVER: Duration = Duration::from_hours(24);

/// Returns the head of a request and the first byte of its body.
fn half_sent() -> String {
    format!("{ENROL}Content-Length: 100000\r\n\r\nx")
}

async fn send_half(url: &str) -> TcpStream {
    let (_, address) = url.split_once("://").expect("a URL");
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let half = half_sent();
    stream.write_all(half.as_bytes()).await.expect("half");
    stream
}

async fn is_healthy(caller: &Caller) -> bool {
    let request = caller.request(Method::GET, "/healthz").send().await;
    request.is_ok_and(|answer| answer.status() == 200)
}

async fn hub_of(limits: Limits) -> (Hub, Caller) {
    let hub = hub_with(Options {
        http: true,
        limits,
        ..Options::default()
    })
    .await;
    let caller = Caller::of(&hub);
    (hub, caller)
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_408_and_a_close() {
    let chunked = format!("{ENROL}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
    let silent = format!("{ENROL}Content-Length: 1\r\n\r\n");
    for http in [true, false] {
        let hub = hub_with(Options {
            http,
            limits: Limits {
                body_time: Duration::ZERO,
                ..Limits::default()
            },
            ..Options::default()
        })
        .await;
        for request in [&half_sent(), &chunked, &silent] {
            // All bytes until the hub closes; the client itself would reuse the connection.
            let (answer, ended) = exchange(&hub, request.as_bytes()).await;
            ended.expect("a proper end");
            let answer = String::from_utf8(answer).expect("text");
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
            assert!(answer.contains(r#"{"error":"request_timeout""#), "{answer}");
        }
        assert!(is_healthy(&Caller::of(&hub)).await);
        hub.stop().await;
    }
}

#[tokio::test]
async fn half_sent_bodies_make_room_for_others() {
    let (hub, caller) = hub_of(Limits {
        body_time: NEVER,
        connections: 8,
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..30 {
        open.push(send_half(hub.url()).await);
    }
    assert!(is_healthy(&caller).await);
    let created = caller.create_token(1, json!({})).await;
    Agent::enrol(&Host::new(), &caller, &created.token).await;
    drop(open);
    hub.stop().await;
}

#[tokio::test]
async fn a_request_under_way_makes_no_room() {
    let (hub, caller) = hub_of(Limits {
        body_time: NEVER,
        connections: 2,
    })
    .await;
    let late = json!({"route": "enrol", "delay_ms": 600_000});
    caller.fault(late).await;
    let late = Host::new().registration(&caller, "enrol", "enrl_x").send();
    let late = tokio::spawn(late);
    while caller.get("/api/v1/faults").await.1["faults"] != json!([]) {}

    // Its connection is more silent than the half-sent body that follows.
    let mut half = send_half(hub.url()).await;
    let mut rest = Vec::new();
    tokio::select! {
        _ = half.read_to_end(&mut rest) => {}
        () = async { while is_healthy(&caller).await {} } => panic!("the hub is not healthy"),
    }
    assert!(!late.is_finished());
    hub.stop().await;
}

/// The hub is a program here, with few descriptors.
#[tokio::test]
async fn two_hundred_half_sent_bodies_do_not_use_up_the_descriptors() {
    let hub = program(&[]).get_program().to_owned();
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n 128 && exec \"$0\" --http"])
        .arg(hub)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let hub = Running::of(&mut limited);
    let caller = hub.caller();
    let mut open = Vec::new();
    for _ in 0..200 {
        open.push(send_half(&caller.url).await);
    }
    assert!(is_healthy(&caller).await);
    let created = caller.create_token(1, json!({})).await;
    Agent::enrol(&Host::new(), &caller, &created.token).await;
    let log = hub.end(Signal::SIGTERM);
    assert!(
        log.contains("96 connections: the most silent is closed"),
        "{log}"
    );
    assert!(!log.contains("accept"), "{log}");
}
