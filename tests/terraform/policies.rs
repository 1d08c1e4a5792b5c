//! The examples: a policy that lets a host read its token exists before the host boots. No reference from the host
//! leads to the policy, so Terraform orders them only by `depends_on`.

use std::fs;

use crate::terraform::source;

/// Types of resources that boot hosts.
const HOSTS: [&str; 5] = [
    "aws_autoscaling_group",
    "aws_instance",
    "azurerm_linux_virtual_machine",
    "google_compute_instance",
    "hcloud_server",
];

/// Parts of the names of the types that grant a right.
const GRANTS: [&str; 6] = [
    "_iam_role_policy",
    "_iam_member",
    "_iam_binding",
    "_iam_policy_attachment",
    "_role_assignment",
    "_access_policy",
];

#[test]
fn each_host_of_an_example_waits_for_the_policy_of_its_token() {
    let mut granted = 0;
    for entry in fs::read_dir(source("examples")).unwrap() {
        let folder = entry.unwrap().path();
        let files = fs::read_dir(&folder).unwrap();
        let code: String = files
            .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
            .collect();
        let resources = resources(&code);
        let hosts: Vec<_> = resources
            .iter()
            .filter(|(name, _)| {
                HOSTS
                    .iter()
                    .any(|kind| name.starts_with(&format!("{kind}.")))
            })
            .collect();
        assert!(!hosts.is_empty(), "{}: no known host", folder.display());
        for (grant, _) in &resources {
            if !GRANTS.iter().any(|part| grant.contains(part)) {
                continue;
            }
            granted += 1;
            for (host, text) in &hosts {
                let (_, waits) = text.split_once("  depends_on = [").unwrap_or_default();
                let (waits, _) = waits.split_once(']').unwrap_or_default();
                assert!(
                    waits.split(',').any(|name| name.trim() == grant),
                    "{}: {host} does not depend on {grant}",
                    folder.display()
                );
            }
        }
    }
    assert_eq!(granted, 2, "one policy at AWS, one at Google");
}

/// Returns the resources of formatted code: `TYPE.NAME`, with the block's text.
fn resources(code: &str) -> Vec<(String, &str)> {
    let blocks = code.split("\nresource \"").skip(1);
    let named = blocks.map(|block| {
        let (kind, rest) = block.split_once("\" \"").unwrap();
        let (name, rest) = rest.split_once('"').unwrap();
        let text = rest.split_once("\n}").map_or(rest, |(text, _)| text);
        (format!("{kind}.{name}"), text)
    });
    named.collect()
}
