//! Each file of the host is opened at most twice by one enrolment: once before the lock, once under it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::common::{Prepared, TestHost, TestHub};

/// Opens that a single enrolment may make of one file.
const MOST: usize = 2;

/// Runs `agent` under strace(1). Returns how often it opened each path below the host's root, temporary
/// files aside.
fn opens(host: &TestHost, agent: Prepared) -> BTreeMap<String, usize> {
    let trace = host.path("trace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-e", "trace=openat,?open,?openat2", "-o"])
        .arg(&trace);
    agent.under(&mut strace).run().expect(0);
    let root = format!("\"{}", host.path("").display());
    let mut opens = BTreeMap::new();
    for line in fs::read_to_string(&trace).unwrap().lines() {
        let Some((_, path)) = line.split_once(&root) else {
            continue;
        };
        let (path, rest) = path.split_once('"').unwrap();
        let is_temporary = path.rsplit('/').next().unwrap().starts_with('.');
        // A folder is opened to be listed and to be synced.
        if !is_temporary && !rest.contains("O_DIRECTORY") && !host.path(path).is_dir() {
            *opens.entry(path.to_owned()).or_default() += 1;
        }
    }
    fs::remove_file(trace).unwrap();
    opens
}

fn at_most_twice(case: &str, opens: &BTreeMap<String, usize>) {
    assert!(!opens.is_empty(), "{case}: nothing was seen");
    let too_often: Vec<_> = opens.iter().filter(|(_, times)| **times > MOST).collect();
    assert!(too_often.is_empty(), "{case}: {too_often:?}");
}

#[test]
fn an_enrolment_opens_each_file_at_most_twice() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = hub.token();
    let fresh = opens(&host, host.enrol(&hub, &token));
    assert!(fresh.contains_key("var/lib/monsys/state.json"), "{fresh:?}");
    at_most_twice("fresh", &fresh);
    at_most_twice("enrolled", &opens(&host, host.enrol(&hub, &token)));
    let forced = host.enrol_with(&hub, &token, &["--force"]);
    at_most_twice("forced", &opens(&host, forced));
    let updated = host.enrol_with(&hub, &token, &["--tag", "canary"]);
    at_most_twice("updated", &opens(&host, updated));
}
