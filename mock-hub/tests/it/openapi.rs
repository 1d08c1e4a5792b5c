//! docs/openapi.yaml describes every address of the hub, and no other.

use crate::clients::{Caller, answer, hub};
use reqwest::Method;

const DESCRIPTION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.yaml");

#[tokio::test]
async fn every_described_call_is_answered_and_no_other() {
    let hub = hub().await;
    let caller = Caller::of(&hub);
    let text = std::fs::read_to_string(DESCRIPTION).expect("the description");
    let described = calls(&text);
    assert!(described.len() > 15, "{described:?}");
    let mut paths: Vec<&str> = described.iter().map(|(path, _)| path.as_str()).collect();
    paths.dedup();
    for path in paths {
        let address = path.replace("{id}", "00000000-0000-4000-8000-000000000000");
        let response = caller
            .request(Method::PATCH, &address)
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), 405, "{path}");
        let mut allowed: Vec<String> = response.headers()["allow"]
            .to_str()
            .expect("text")
            .split(',')
            .filter(|method| *method != "HEAD")
            .map(str::to_owned)
            .collect();
        allowed.sort();
        let mut methods: Vec<String> = described
            .iter()
            .filter(|(p, _)| p == path)
            .map(|(_, m)| m.to_uppercase())
            .collect();
        methods.sort();
        assert_eq!(allowed, methods, "{path}");
    }
    assert_eq!(answer(caller.request(Method::GET, "/api/v1")).await.0, 404);
    hub.stop().await;
}

/// Returns path and method of each call, from the indentation of the file.
fn calls(text: &str) -> Vec<(String, String)> {
    let mut path = None;
    let mut calls = Vec::new();
    let section = text.split("\npaths:\n").nth(1).expect("paths");
    let section = section.split("\ncomponents:\n").next().expect("an end");
    for line in section.lines() {
        if let Some(name) = line
            .strip_prefix("  /")
            .and_then(|rest| rest.strip_suffix(':'))
        {
            path = Some(format!("/{name}"));
        } else if let Some(name) = line
            .strip_prefix("    ")
            .and_then(|rest| rest.strip_suffix(':'))
            && ["get", "post", "delete", "put", "patch"].contains(&name)
        {
            calls.push((path.clone().expect("a path first"), name.to_owned()));
        }
    }
    calls
}
