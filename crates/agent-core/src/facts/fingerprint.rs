//! A fingerprint of the machine, which does not reveal the machine-id.
//!
//! Three ids name a machine, the strongest first: the cloud's instance id, the product UUID of the
//! firmware, and the machine-id. A copied disk has the machine-id too. So a clone differs in a stronger id.
//! When a stronger id is the same, only the machine-id was generated again.

use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::error::Result;
use crate::hex;
use crate::store::{safe_read, unreadable};

/// Key of the HMAC: the id of this application, as machine-id(5) requires.
const APPLICATION: &[u8] = b"monsys-agent machine fingerprint v1";

/// The hashed ids of a machine. `None` means that the machine does not have the id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fingerprint {
    /// Hash of the cloud's instance id.
    pub instance_id: Option<String>,
    /// Hash of the firmware's product UUID.
    pub product_uuid: Option<String>,
    /// Hash of `/etc/machine-id`.
    pub machine_id: Option<String>,
}

impl Fingerprint {
    /// Reads the fingerprint of this machine.
    ///
    /// # Errors
    /// [`crate::error::ErrorId::Unreadable`] when the disk fails. Without that error, an id that cannot be
    /// read would count as absent, and the agent could not detect a clone.
    pub fn of(environment: &Environment) -> Result<Self> {
        let host = |path| name(&environment.resolved_path(path));
        // All containers on a machine see the firmware of that machine.
        let has_firmware = !is_container(environment);
        let firmware = |path| {
            if has_firmware {
                name(&environment.kernel_path(path))
            } else {
                Ok(None)
            }
        };
        // cloud-init writes this file in each boot. Its copy under /var/lib moves with a copied disk.
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

    /// Returns whether the machine has none of the ids.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns a short name of the machine, from its strongest id.
    #[must_use]
    pub fn short(&self) -> &str {
        [&self.instance_id, &self.product_uuid, &self.machine_id]
            .into_iter()
            .find_map(|id| id.as_deref()?.get(..16))
            .unwrap_or("unnamed")
    }

    /// Returns this fingerprint, with the ids added that only `now` has.
    #[must_use]
    pub fn filled_in(&self, now: &Self) -> Self {
        let either = |then: &Option<String>, now: &Option<String>| then.clone().or(now.clone());
        Self {
            instance_id: either(&self.instance_id, &now.instance_id),
            product_uuid: either(&self.product_uuid, &now.product_uuid),
            machine_id: either(&self.machine_id, &now.machine_id),
        }
    }

    /// Returns whether `self`, stored earlier, is the machine `now`. The strongest id that both have decides.
    /// Without a common id, they count as the same machine.
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

/// Returns the text of a file, or `None` when the file is missing or this user may not read it.
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

/// Returns whether this is a container, by the files of systemd-nspawn and others, Docker and Podman.
fn is_container(environment: &Environment) -> bool {
    [
        "/run/systemd/container",
        "/.dockerenv",
        "/run/.containerenv",
    ]
    .iter()
    .any(|file| environment.resolved_path(file).exists())
}

/// Returns whether an asset tag is the id of an instance on AWS Nitro.
fn is_ec2(tag: &str) -> bool {
    tag.starts_with("i-")
}

/// Returns an instance id, except the placeholders of cloud-init and its seeds, which many machines share.
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

/// Returns a product UUID, except the placeholders of boards without a UUID, which many machines share.
#[must_use]
pub fn product_uuid(text: &str) -> Option<String> {
    let uuid: uuid::Uuid = text.trim().parse().ok()?;
    let placeholder = "03000200-0400-0500-0006-000700080009";
    let uuid = uuid.to_string();
    let blank = uuid.chars().all(|c| matches!(c, '0' | '-'))
        || uuid.chars().all(|c| matches!(c, 'f' | '-'));
    (!blank && uuid != placeholder).then_some(uuid)
}

/// Returns a valid machine-id. The file holds `uninitialized` until the first boot ends (machine-id(5)).
#[must_use]
pub fn machine_id(text: &str) -> Option<String> {
    let id = text.trim().to_ascii_lowercase();
    let valid = id.len() == 32
        && id.bytes().all(|b| b.is_ascii_hexdigit())
        && id.bytes().any(|b| b != b'0');
    valid.then_some(id)
}

/// Hashes one id of the machine, so that the id itself is stored nowhere (machine-id(5)).
#[must_use]
pub fn hash(kind: &str, id: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, APPLICATION);
    // The HMAC of the machine-id has only the id, as the contract requires. The kind in the message
    // distinguishes the others from it.
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
        let id = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Fingerprint {
            instance_id: id(instance),
            product_uuid: id(product),
            machine_id: id(machine),
        }
    }

    #[test]
    fn the_strongest_common_id_decides() {
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
    fn placeholders_are_not_ids() {
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
