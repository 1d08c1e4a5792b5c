//! A server that answers one request at a time, and shows what it got.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::Value;

/// A JSON request as it came.
pub(crate) struct JsonRequest {
    /// Head and body.
    pub(crate) text: String,
    /// The body.
    pub(crate) body: Value,
}

/// Answers a JSON request on this listener with a status and no body.
#[track_caller]
pub(crate) fn answer(listener: &TcpListener, status: &str) -> JsonRequest {
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    // The last byte of the body is the closing brace.
    while !request.ends_with(b"}") {
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk).unwrap();
        assert!(length > 0, "the request ends early");
        request.extend_from_slice(&chunk[..length]);
    }
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let text = String::from_utf8(request).unwrap();
    let body = serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    JsonRequest { text, body }
}
