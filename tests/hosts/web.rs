//! A server on the hub's machine with one response: a metadata service or a secret store.

use std::io::{Read, Write};
use std::net::TcpListener;

/// Answers every request with `text`; returns where, as `http://ADDRESS`.
pub(crate) fn serve_once(text: &str) -> String {
    let listener = TcpListener::bind("192.0.2.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let head = "HTTP/1.1 200 OK\r\nconnection: close";
    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            // A client that closes early does not affect the others.
            if stream.read(&mut request).is_ok_and(|length| length > 0) {
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    url
}
