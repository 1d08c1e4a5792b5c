//! `facts`: the exact content of an enrolment request.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::namespace::{Namespace, ip, tool};
use crate::common::{TestHost, TestHub, keys, needs_root};

fn facts(host: &TestHost, variables: &[(&str, &str)]) -> Value {
    let mut agent = host.agent(&[
        "facts",
        "--output",
        "json",
        "--hub-url",
        "https://127.0.0.1:1",
    ]);
    for (name, value) in variables {
        agent = agent.env(name, value);
    }
    agent.run().expect(0).json()
}

#[test]
fn facts_have_every_field_and_equal_the_request() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let facts = facts(&host, &[]);
    assert_eq!(
        keys(&facts),
        [
            "agent_version",
            "architecture",
            "cpus",
            "hostname",
            "interfaces",
            "kernel",
            "machine_fingerprint",
            "memory_bytes",
            "os_info",
            "primary_ip",
        ]
    );
    assert_eq!(facts["hostname"], "web-3");
    assert_eq!(facts["os_info"], "Debian GNU/Linux 12 (bookworm)");
    assert!(facts["cpus"].as_u64().unwrap() >= 1);
    assert!(facts["memory_bytes"].as_u64().unwrap() > 1 << 20);
    let interface = &facts["interfaces"][0];
    assert_eq!(
        keys(interface),
        [
            "addresses",
            "bytes_recv",
            "bytes_sent",
            "is_loopback",
            "is_management",
            "is_up",
            "is_virtual",
            "is_wireless",
            "mac",
            "name",
        ]
    );

    host.enrol(&hub, &hub.token()).run().expect(0);
    let agent = hub.get(&format!("agents/{}", host.key("agent_id").unwrap()));
    for key in [
        "hostname",
        "os_info",
        "architecture",
        "kernel",
        "machine_fingerprint",
    ] {
        assert_eq!(agent["facts"][key], facts[key], "{key}: {agent}");
    }
}

#[test]
fn facts_agree_with_the_tools_of_this_machine() {
    let facts = facts(&TestHost::new(), &[]);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(facts["kernel"], kernel.trim());
    let memory = fs::read_to_string("/proc/meminfo").unwrap();
    let kib: u64 = memory
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(facts["memory_bytes"], kib * 1024);
    let names: Vec<String> = fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let interfaces = facts["interfaces"].as_array().unwrap();
    for name in names {
        assert!(
            interfaces.iter().any(|i| i["name"] == name.as_str()),
            "{name}"
        );
    }
    if let Some(ip) = facts["primary_ip"].as_str() {
        let carries = |i: &&Value| i["addresses"].as_array().unwrap().contains(&json!(ip));
        let management: Vec<&Value> = interfaces
            .iter()
            .filter(|i| i["is_management"] == true)
            .collect();
        assert_eq!(
            management,
            interfaces.iter().filter(carries).collect::<Vec<_>>()
        );
    }
}

#[test]
fn facts_fall_back_in_the_documented_order() {
    let host = TestHost::new();
    host.write_file("mnt/name", "from-file\n");
    host.write_file("mnt/os", "PRETTY_NAME='From File'\n");
    let variables = [
        ("HOST_HOSTNAME_FILE", "/mnt/name"),
        ("HOST_OS_RELEASE_FILE", "/mnt/os"),
    ];
    let found = facts(&host, &variables);
    assert_eq!(found["hostname"], "from-file");
    assert_eq!(found["os_info"], "From File");

    host.write_file("mnt/os", "NAME=nothing pretty\n");
    assert_eq!(
        facts(&host, &variables)["os_info"],
        "Debian GNU/Linux 12 (bookworm)"
    );
    fs::remove_file(host.path("etc/os-release")).unwrap();
    host.write_file("usr/lib/os-release", "PRETTY_NAME=Usr\n");
    assert_eq!(facts(&host, &variables)["os_info"], "Usr");
    fs::remove_file(host.path("usr/lib/os-release")).unwrap();
    assert_eq!(facts(&host, &variables)["os_info"], "linux");

    fs::remove_file(host.path("host-hostname")).unwrap();
    let kernel = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(facts(&host, &[])["hostname"], kernel.trim());

    fs::remove_file(host.path("etc/machine-id")).unwrap();
    assert_eq!(facts(&host, &[])["machine_fingerprint"], Value::Null);
}

#[test]
fn facts_never_contain_the_raw_machine_id() {
    let host = TestHost::new();
    let found = facts(&host, &[]);
    assert_eq!(found["machine_fingerprint"].as_str().unwrap().len(), 64);
    assert!(
        !found
            .to_string()
            .contains("0123456789abcdef0123456789abcdef")
    );
}

#[test]
fn facts_print_as_text() {
    let run = TestHost::new().agent(&["facts"]).run().expect(0);
    assert!(
        run.stdout.contains("hostname             web-3"),
        "{}",
        run.stdout
    );
    assert!(run.stdout.contains("interfaces"));
}

#[test]
fn facts_skip_unreadable_and_blocking_sources() {
    let host = TestHost::new();
    fs::remove_file(host.path("host-hostname")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(host.path("host-hostname"))
        .status()
        .unwrap();
    assert!(made.success());
    // A directory stands for a file that a user cannot read: the facts do not need it.
    host.write_file("etc/monsys/agent.toml/x", "");
    let kernel = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(facts(&host, &[])["hostname"], kernel.trim());
}

/// The request has the limits of a hub: 4096 interfaces, and 1 MiB.
#[test]
#[ignore = "needs root: makes a namespace"]
fn more_interfaces_than_a_hub_takes_enrol() {
    needs_root();
    // This thread, with all that it starts, stays in the namespace.
    Namespace::fresh();
    let host = TestHost::new();
    ip("link add zz0 type veth peer name zz1");
    ip("addr add 192.0.2.7/24 dev zz0");
    // The kernel removes 5,000 bridges in a minute, and answers no question about interfaces meanwhile.
    let link = |at| {
        format!(
            "link add link zz1 name b{at:04}-{:0>8} type macvlan\n",
            at * 7
        )
    };
    let batch = host.write_file("links", &(0..5000).map(link).collect::<String>());
    tool("/sbin/ip", &["-batch", batch.to_str().unwrap()]);
    let hub = TestHub::new();
    host.enrol(&hub, &hub.token())
        .run()
        .expect(0)
        .expect_stderr(&["this host has 5003 network interfaces", "4096"]);
    let agent = hub.get(&format!("agents/{}", host.key("agent_id").unwrap()));
    let listed = agent["facts"]["interfaces"].as_array().unwrap();
    assert_eq!(listed.len(), 4096);
    assert!(listed.iter().any(|interface| interface["name"] == "zz0"));
}

#[test]
#[ignore = "needs root: makes a namespace"]
fn an_address_with_a_label_belongs_to_its_interface() {
    const LONG: &str = "v8-with-15-char";
    needs_root();
    Namespace::fresh();
    ip("link add v9 type veth peer name v9p");
    ip("link set v9 up");
    ip("addr add 192.0.2.77/24 dev v9 label v9:lbl");
    ip("addr add 192.0.2.78/24 dev v9 label v9vip");
    ip("addr add 192.0.2.79/24 dev v9 label v9:vip");
    // The kernel shortens the name in a label, so that this one begins with no interface.
    ip("link set v9 down");
    for name in ["v9", LONG] {
        if name == LONG {
            ip(&format!("link set v9 name {LONG}"));
        }
        let found = facts(&TestHost::new(), &[]);
        let interfaces = found["interfaces"].as_array().unwrap();
        let mut names: Vec<&str> = interfaces
            .iter()
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        let mut expected = ["lo", name, "v9p"];
        expected.sort_unstable();
        assert_eq!(names, expected);
        let of_name = interfaces.iter().find(|it| it["name"] == name).unwrap();
        let addresses = of_name["addresses"].as_array().unwrap();
        for address in ["192.0.2.77", "192.0.2.78", "192.0.2.79"] {
            assert!(addresses.contains(&json!(address)), "{addresses:?}");
        }
    }
}

#[test]
#[ignore = "needs root: makes a namespace"]
fn a_host_name_that_was_never_set_is_unknown() {
    needs_root();
    let host = TestHost::new();
    for name in ["(none)", "localhost", "localhost.localdomain"] {
        host.write_file("host-hostname", &format!("{name}\n"));
        let script = format!("printf '%s' '{name}' >/proc/sys/kernel/hostname; exec \"$@\"");
        let mut unshare = Command::new("/usr/bin/unshare");
        unshare.args(["--uts", "/bin/sh", "-ec", &script, "sh"]);
        let run = host
            .agent(&["facts", "--output", "json"])
            .under(&mut unshare);
        assert_eq!(run.run().expect(0).json()["hostname"], "unknown", "{name}");
    }
}
