//! Which machine this is, without telling its machine-id to anyone.
//!
//! Three things name a machine, the strongest first: the cloud's instance id, the product UUID of
//! its firmware, and the machine-id. A copied disk carries the machine-id along, so a difference
//! in something stronger tells a clone; the same in something stronger tells that only the
//! machine-id was made anew.

use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::error::Result;
use crate::hex;
use crate::store::{safe_read, unreadable};

/// Key of the HMAC: the id of this application, as machine-id(5) asks for.
const APPLICATION: &[u8] = b"monsys-agent machine fingerprint v1";

/// What names a machine, each hashed. `None` where the machine has no such thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fingerprint {
    /// Of the instance id that the cloud gave.
    pub instance_id: Option<String>,
    /// Of the firmware's product UUID.
    pub product_uuid: Option<String>,
    /// Of `/etc/machine-id`.
    pub machine_id: Option<String>,
}

impl Fingerprint {
    /// Reads the fingerprint of the machine that this runs on.
    ///
    /// # Errors
    /// [`crate::error::ErrorId::Unreadable`] when the disk fails: a name that is there and cannot
    /// be read is not taken for none, since a clone would not be known for one.
    pub fn of(environment: &Environment) -> Result<Self> {
        let host = |path| name(&environment.resolved_path(path));
        // Containers see the firmware of the machine they run on, all the same one.
        let has_firmware = !is_container(environment);
        let firmware = |path| {
            if has_firmware {
                name(&environment.kernel_path(path))
            } else {
                Ok(None)
            }
        };
        // What cloud-init wrote in this boot: its copy under /var/lib travels with the disk.
        let instance = match host("/run/cloud-init/.instance-id")? {
            Some(id) => Some(id),
            None => firmware("/sys/class/dmi/id/board_asset_tag")?.filter(|tag| is_ec2(tag)),
        };
        let machine = match host("/etc/machine-id")? {
            Some(id) => Some(id),
            None => host("/var/lib/dbus/machine-id")?,
        };
        Ok(Self {
            instance_id: instance
                .and_then(|text| instance_id(&text))
                .map(|id| hash("instance-id", &id)),
            product_uuid: firmware("/sys/class/dmi/id/product_uuid")?
                .and_then(|text| product_uuid(&text))
                .map(|uuid| hash("product-uuid", &uuid)),
            machine_id: machine
                .and_then(|text| machine_id(&text))
                .map(|id| hash("machine-id", &id)),
        })
    }

    /// Whether nothing is known of the machine.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Short name of the machine, by the strongest thing that it has.
    #[must_use]
    pub fn short(&self) -> &str {
        [&self.instance_id, &self.product_uuid, &self.machine_id]
            .into_iter()
            .find_map(|id| id.as_deref()?.get(..16))
            .unwrap_or("unnamed")
    }

    /// This fingerprint, with what only `now` has.
    #[must_use]
    pub fn filled_in(&self, now: &Self) -> Self {
        let either = |then: &Option<String>, now: &Option<String>| then.clone().or(now.clone());
        Self {
            instance_id: either(&self.instance_id, &now.instance_id),
            product_uuid: either(&self.product_uuid, &now.product_uuid),
            machine_id: either(&self.machine_id, &now.machine_id),
        }
    }

    /// Whether `self`, written down earlier, is the machine `now`. The strongest thing that both
    /// have decides; with nothing in common, nothing speaks against it.
    #[must_use]
    pub fn is_same_machine(&self, now: &Self) -> bool {
        [
            (&self.instance_id, &now.instance_id),
            (&self.product_uuid, &now.product_uuid),
            (&self.machine_id, &now.machine_id),
        ]
        .into_iter()
        .find_map(|(then, now)| Some(then.as_ref()? == now.as_ref()?))
        .unwrap_or(true)
    }
}

/// What a file names, or none where it is not there or not for us to read.
fn name(path: &Path) -> Result<Option<String>> {
    match safe_read::text(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.raw_os_error().is_none() => Ok(None),
        Err(error) => match error.kind() {
            NotFound | NotADirectory | PermissionDenied => Ok(None),
            _ => Err(unreadable(path, &error)),
        },
    }
}

/// The marks that systemd-nspawn and others, Docker and Podman leave.
fn is_container(environment: &Environment) -> bool {
    [
        "/run/systemd/container",
        "/.dockerenv",
        "/run/.containerenv",
    ]
    .iter()
    .any(|mark| environment.resolved_path(mark).exists())
}

/// Instances on AWS Nitro have their id as the asset tag of the board.
fn is_ec2(tag: &str) -> bool {
    tag.starts_with("i-")
}

/// What cloud-init and its seeds use where no cloud gave an id names no machine.
#[must_use]
pub fn instance_id(text: &str) -> Option<String> {
    let id = text.trim();
    let placeholders = [
        "",
        "NO_PREVIOUS_INSTANCE_ID",
        "iid-datasource-none",
        "iid-local01",
        "nocloud",
    ];
    (!placeholders.contains(&id)).then(|| id.to_owned())
}

/// Boards without an own UUID ship one of these, so they name no machine.
#[must_use]
pub fn product_uuid(text: &str) -> Option<String> {
    let uuid: uuid::Uuid = text.trim().parse().ok()?;
    let placeholder = "03000200-0400-0500-0006-000700080009";
    let uuid = uuid.to_string();
    let blank = uuid.chars().all(|c| matches!(c, '0' | '-'))
        || uuid.chars().all(|c| matches!(c, 'f' | '-'));
    (!blank && uuid != placeholder).then_some(uuid)
}

/// `uninitialized` stands there until the first boot ends (machine-id(5)).
#[must_use]
pub fn machine_id(text: &str) -> Option<String> {
    let id = text.trim().to_ascii_lowercase();
    let valid = id.len() == 32
        && id.bytes().all(|b| b.is_ascii_hexdigit())
        && id.bytes().any(|b| b != b'0');
    valid.then_some(id)
}

/// Hashes one name of the machine, so that the name itself leaves no trace (machine-id(5)).
#[must_use]
pub fn hash(kind: &str, id: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, APPLICATION);
    // The machine-id stands alone under the HMAC, as the contract says; the others are told apart
    // from it by their kind.
    let message = if kind == "machine-id" {
        id.to_owned()
    } else {
        format!("{kind}:{id}")
    };
    hex::encode(ring::hmac::sign(&key, message.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(instance: &str, product: &str, machine: &str) -> Fingerprint {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Fingerprint {
            instance_id: given(instance),
            product_uuid: given(product),
            machine_id: given(machine),
        }
    }

    #[test]
    fn the_strongest_common_thing_decides() {
        let then = fingerprint("i-1", "u1", "m1");
        for (now, same) in [
            (fingerprint("i-1", "u1", "m1"), true),
            (fingerprint("i-1", "u2", "m2"), true),
            (fingerprint("i-2", "u1", "m1"), false),
            (fingerprint("", "u1", "m2"), true),
            (fingerprint("", "u2", "m1"), false),
            (fingerprint("", "", "m1"), true),
            (fingerprint("", "", "m2"), false),
            (fingerprint("", "", ""), true),
        ] {
            assert_eq!(then.is_same_machine(&now), same, "{now:?}");
        }
        assert!(Fingerprint::default().is_same_machine(&then));
    }

    #[test]
    fn what_names_no_machine_is_not_taken() {
        assert_eq!(machine_id("uninitialized\n"), None);
        assert_eq!(machine_id(&"0".repeat(32)), None);
        assert_eq!(machine_id(""), None);
        assert_eq!(product_uuid("00000000-0000-0000-0000-000000000000"), None);
        assert_eq!(product_uuid("Not Settable"), None);
        assert_eq!(product_uuid("03000200-0400-0500-0006-000700080009\n"), None);
        assert_eq!(instance_id("iid-datasource-none\n"), None);
    }

    #[test]
    fn is_a_hash_and_not_the_id() {
        let id = "0123456789abcdef0123456789abcdef";
        // printf %s "$id" | openssl dgst -sha256 -hmac 'monsys-agent machine fingerprint v1'
        assert_eq!(
            hash("machine-id", id),
            "0004324a1f4abb3ecbc6fc51435317b159c89dad68ea894d4818336e96dc488d"
        );
    }
}
