//! The decision for each combination of ids, and the ids of machines of several kinds.

use std::fs;

use proptest::prelude::*;

use super::*;

const UUID: &str = "5c241f42-a87f-fa60-6af6-a46351ced0eb";
const UUID_SWAPPED: &str = "421f245c-7fa8-60fa-6af6-a46351ced0eb";
const OTHER_UUID: &str = "d0df4c54-4ecb-4a4b-9954-5bdf3ed5c3b8";
const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef";
const OTHER_MACHINE_ID: &str = "fedcba9876543210fedcba9876543210";

/// Returns the fingerprint of a machine with these files below `/`.
fn machine(files: &[(&str, &str)]) -> Fingerprint {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    let environment = Environment::real([])
        .with_root(root.path())
        .with_kernel(root.path())
        .with_variables(Vec::<(String, String)>::new());
    Fingerprint::of(&environment).unwrap()
}

/// Returns the fingerprint of a machine with these ids; an empty text means that the id is missing.
fn ids(instance: &str, uuid: &str, machine_id: &str) -> Fingerprint {
    let files = [
        ("run/cloud-init/.instance-id", instance),
        ("sys/class/dmi/id/product_uuid", uuid),
        ("etc/machine-id", machine_id),
    ];
    let files: Vec<_> = files.into_iter().filter(|(_, id)| !id.is_empty()).collect();
    machine(&files)
}

/// The table of docs/golden-images.md: instance id, product UUID and machine-id, each the same (`=`), another
/// (`x`) or missing in one of the fingerprints (`-`), and whether it is the same machine.
const TABLE: [(&str, bool); 27] = [
    ("===", true),
    ("==x", true),
    ("==-", true),
    ("=x=", true),
    ("=xx", true),
    ("=x-", true),
    ("=-=", true),
    ("=-x", true),
    ("=--", true),
    ("x==", true),
    ("x=x", false),
    ("x=-", true),
    ("xx=", false),
    ("xxx", false),
    ("xx-", false),
    ("x-=", false),
    ("x-x", false),
    ("x--", false),
    ("-==", true),
    ("-=x", true),
    ("-=-", true),
    ("-x=", false),
    ("-xx", false),
    ("-x-", false),
    ("--=", true),
    ("--x", false),
    ("---", true),
];

#[test]
fn each_combination_of_ids_has_a_decision() {
    let then = ids("i-1", UUID, MACHINE_ID);
    let values = [
        ["i-1", "i-2"],
        [UUID, OTHER_UUID],
        [MACHINE_ID, OTHER_MACHINE_ID],
    ];
    for (row, is_same) in TABLE {
        let columns = row.chars().zip(values);
        let value = |(mark, [same, other]): (char, [&'static str; 2])| match mark {
            '=' => same,
            'x' => other,
            _ => "",
        };
        let now: Vec<_> = columns.clone().map(value).collect();
        let now = ids(now[0], now[1], now[2]);
        assert_eq!(then.is_same_machine(&now), is_same, "{row}");
        // An id that is missing in the stored fingerprint instead.
        let stored: Vec<_> = columns
            .clone()
            .map(|(mark, [same, _])| if mark == '-' { "" } else { same })
            .collect();
        let stored = ids(stored[0], stored[1], stored[2]);
        let full: Vec<_> = columns
            .map(|(mark, [same, other])| if mark == 'x' { other } else { same })
            .collect();
        let full = ids(full[0], full[1], full[2]);
        assert_eq!(stored.is_same_machine(&full), is_same, "{row}, stored");
    }
}

#[test]
fn the_documentation_has_the_same_table() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/golden-images.md");
    let page = fs::read_to_string(page).unwrap();
    let word = |mark| match mark {
        '=' => "same",
        'x' => "other",
        _ => "missing",
    };
    for (row, is_same) in TABLE {
        let cells: Vec<_> = row.chars().map(word).collect();
        let machine = if is_same { "same" } else { "**clone**" };
        let line = format!("| {} | {machine} |", cells.join(" | "));
        assert!(page.contains(&line), "{line}");
    }
}

#[test]
fn the_uuid_counts_in_either_byte_order() {
    let then = ids("", UUID, MACHINE_ID);
    let now = ids("", UUID_SWAPPED, OTHER_MACHINE_ID);
    assert!(then.is_same_machine(&now) && now.is_same_machine(&then));
    // As an earlier version stored it.
    let text = serde_json::to_string(&then).unwrap();
    let mut stored: serde_json::Value = serde_json::from_str(&text).unwrap();
    stored
        .as_object_mut()
        .unwrap()
        .remove("product_uuid_swapped")
        .unwrap();
    let stored: Fingerprint = serde_json::from_value(stored).unwrap();
    assert!(stored.is_same_machine(&now));
    assert!(!stored.is_same_machine(&ids("", OTHER_UUID, MACHINE_ID)));
    // A later start, by a user who may not read the UUID, has the hash of the record.
    let updated = stored.updated(&now);
    assert_eq!(updated, now);
    assert!(updated.is_same_machine(&now));
}

#[test]
fn a_container_does_not_have_the_ids_of_its_machine() {
    let firmware = |uuid| {
        [
            ("sys/class/dmi/id/product_uuid", uuid),
            ("sys/class/dmi/id/board_asset_tag", "i-0123456789abcdef0"),
        ]
    };
    let on_machine = machine(&firmware(UUID));
    assert!(on_machine.instance_id.is_some() && on_machine.product_uuid.is_some());
    let here = [&firmware(UUID)[..], &[("run/.containerenv", "")]].concat();
    assert!(machine(&here).is_empty());
    // An earlier version did not recognise the container, which has moved to another node.
    let there = [&firmware(OTHER_UUID)[..], &[("run/.containerenv", "")]].concat();
    assert!(on_machine.is_same_machine(&machine(&there)));
}

#[test]
fn the_same_id_of_a_seed_proves_nothing() {
    let of_cloud = |cloud, uuid, machine_id| {
        machine(&[
            ("run/cloud-init/.instance-id", "web-1"),
            ("run/cloud-init/cloud-id", cloud),
            ("sys/class/dmi/id/product_uuid", uuid),
            ("etc/machine-id", machine_id),
        ])
    };
    for (cloud, is_same) in [("nocloud", false), ("openstack", true)] {
        let then = of_cloud(cloud, UUID, MACHINE_ID);
        for now in [
            of_cloud(cloud, OTHER_UUID, MACHINE_ID),
            of_cloud(cloud, "", OTHER_MACHINE_ID),
        ] {
            assert_eq!(then.is_same_machine(&now), is_same, "{cloud}: {now:?}");
        }
        assert!(then.is_same_machine(&of_cloud(cloud, UUID, OTHER_MACHINE_ID)));
    }
}

#[test]
fn a_shared_uuid_leaves_the_decision_to_the_machine_id() {
    let shared = "03000200-0400-0500-0006-000700080009";
    let then = ids("", shared, MACHINE_ID);
    assert!(!then.is_same_machine(&ids("", shared, OTHER_MACHINE_ID)));
    assert!(then.is_same_machine(&ids("", shared, MACHINE_ID)));
}

#[test]
fn is_a_hash_and_not_the_id() {
    // printf %s "$id" | openssl dgst -sha256 -hmac 'monsys-agent machine fingerprint v1'
    assert_eq!(
        hash("machine-id", MACHINE_ID),
        "0004324a1f4abb3ecbc6fc51435317b159c89dad68ea894d4818336e96dc488d"
    );
}

proptest! {
    /// A machine with any ids is the same machine after an update, and has no more holes than before.
    #[test]
    fn an_update_makes_the_fingerprint_that_of_the_machine(
        then: [Option<bool>; 3],
        now: [Option<bool>; 3],
    ) {
        let of = |known: [Option<bool>; 3]| {
            let id = |at: usize| known[at].map(|second| hash("machine-id", &format!("{at}{second}")));
            Fingerprint { instance_id: id(0), product_uuid: id(1), machine_id: id(2), ..Fingerprint::default() }
        };
        let (then, now) = (of(then), of(now));
        let updated = then.updated(&now);
        prop_assert!(updated.is_same_machine(&now));
        prop_assert_eq!(&updated.updated(&now), &updated);
        for (before, after) in [
            (&then.instance_id, &updated.instance_id),
            (&then.product_uuid, &updated.product_uuid),
            (&then.machine_id, &updated.machine_id),
        ] {
            prop_assert!(before.is_none() || after.is_some());
        }
    }
}
