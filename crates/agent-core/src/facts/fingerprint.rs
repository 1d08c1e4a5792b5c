//! A fingerprint of the machine, which does not reveal the machine-id.
//!
//! Three ids name a machine: the cloud's instance id, the product UUID of the firmware, and the machine-id.
//! A copied disk has the machine-id too, so a clone differs in one of the others. An id that changes alone
//! has another reason: a new configuration gives a new instance id, and an administrator a new machine-id.
//! docs/golden-images.md has the complete table.

use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::container::is_container;
use super::machine_ids::{in_other_order, instance_id, machine_id, product_uuid};
use crate::environment::Environment;
use crate::error::Result;
use crate::hex;
use crate::store::{safe_read, unreadable};

/// Key of the HMAC: the id of this application, as machine-id(5) requires.
const APPLICATION: &[u8] = b"monsys-agent machine fingerprint v1";
/// Cloud of cloud-init's datasource that reads a seed: a disk, or a folder of the disk.
const SEED_CLOUD: &str = "nocloud";

/// The hashed ids of a machine. `None` means that the machine does not have the id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fingerprint {
    /// Hash of the cloud's instance id.
    pub instance_id: Option<String>,
    /// Hash of the firmware's product UUID.
    pub product_uuid: Option<String>,
    /// Hash of the product UUID in the other byte order. Earlier versions did not store it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_uuid_swapped: Option<String>,
    /// Hash of `/etc/machine-id`.
    pub machine_id: Option<String>,
    /// The instance id is from a seed, which is copied with the disk: the same id proves nothing.
    #[serde(skip)]
    pub is_seeded: bool,
}

/// The result of a comparison of one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    Same,
    Different,
    /// One of the fingerprints does not have the id.
    Unknown,
}

impl Fingerprint {
    /// Reads the fingerprint of this machine.
    ///
    /// # Errors
    /// [`crate::error::ErrorId::Unreadable`] when the disk fails. Without that error, an id that cannot be
    /// read would count as absent, and the agent could not detect a clone.
    pub fn of(environment: &Environment) -> Result<Self> {
        let host = |path| name(&environment.resolved_path(path));
        let firmware = |path| name(&environment.kernel_path(path));
        // cloud-init writes this file in each boot. Its copy under /var/lib moves with a copied disk.
        let instance = host("/run/cloud-init/.instance-id")?;
        let is_seeded = instance.is_some()
            && host("/run/cloud-init/cloud-id")?.is_some_and(|cloud| cloud.trim() == SEED_CLOUD);
        let asset_tag = match instance {
            Some(_) => None,
            None => firmware("/sys/class/dmi/id/board_asset_tag")?.filter(|tag| is_ec2(tag)),
        };
        let product = firmware("/sys/class/dmi/id/product_uuid")?;
        // All containers on a machine see the firmware of that machine.
        let has_firmware = (asset_tag.is_some() || product.is_some()) && !is_container(environment);
        let product = product
            .filter(|_| has_firmware)
            .and_then(|text| product_uuid(&text));
        let machine = match host("/etc/machine-id")? {
            Some(id) => Some(id),
            None => host("/var/lib/dbus/machine-id")?,
        };
        let instance_id = instance
            .or(asset_tag.filter(|_| has_firmware))
            .and_then(|text| instance_id(&text));
        let uuid_hash = |uuid: uuid::Uuid| hash("product-uuid", &uuid.to_string());
        Ok(Self {
            is_seeded: is_seeded && instance_id.is_some(),
            instance_id: instance_id.map(|id| hash("instance-id", &id)),
            product_uuid: product.map(uuid_hash),
            product_uuid_swapped: product.map(in_other_order).map(uuid_hash),
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

    /// Returns this fingerprint with the ids of the same machine as they are `now`. An id that the machine
    /// does not show now stays.
    #[must_use]
    pub fn updated(&self, now: &Self) -> Self {
        let now_or_then =
            |now: &Option<String>, then: &Option<String>| now.clone().or(then.clone());
        let uuid = if now.product_uuid.is_some() {
            now
        } else {
            self
        };
        Self {
            instance_id: now_or_then(&now.instance_id, &self.instance_id),
            product_uuid: uuid.product_uuid.clone(),
            product_uuid_swapped: uuid.product_uuid_swapped.clone(),
            machine_id: now_or_then(&now.machine_id, &self.machine_id),
            is_seeded: false,
        }
    }

    /// Returns this fingerprint with the product UUID of `seen`, if it has none itself.
    #[must_use]
    pub fn with_uuid_of(mut self, seen: &Self) -> Self {
        if self.product_uuid.is_none() {
            self.product_uuid.clone_from(&seen.product_uuid);
            self.product_uuid_swapped
                .clone_from(&seen.product_uuid_swapped);
        }
        self
    }

    /// Returns whether `self`, stored earlier, is the machine `now`. Without a common id, they count as the
    /// same machine.
    #[must_use]
    pub fn is_same_machine(&self, now: &Self) -> bool {
        let instance_id = match compare(self.instance_id.as_ref(), now.instance_id.as_ref()) {
            Compared::Same if now.is_seeded => Compared::Unknown,
            compared => compared,
        };
        is_same(
            instance_id,
            self.compare_uuid(now),
            compare(self.machine_id.as_ref(), now.machine_id.as_ref()),
        )
    }

    fn compare_uuid(&self, now: &Self) -> Compared {
        let uuids =
            [self, now].map(|of| (of.product_uuid.as_ref(), of.product_uuid_swapped.as_ref()));
        let [(then, then_swapped), (now, now_swapped)] = uuids;
        let is_swapped = |swapped, uuid| compare(swapped, uuid) == Compared::Same;
        if is_swapped(then_swapped, now) || is_swapped(now_swapped, then) {
            return Compared::Same;
        }
        compare(then, now)
    }
}

/// Decides whether two fingerprints are of one machine.
fn is_same(instance_id: Compared, product_uuid: Compared, machine_id: Compared) -> bool {
    use Compared::{Different, Same, Unknown};
    match (instance_id, product_uuid, machine_id) {
        (Same, _, _) | (Unknown, Same, _) => true,
        // A changed configuration gives a new instance id, and not a new machine.
        (Different, Same, machine_id) | (Unknown, Unknown, machine_id) => machine_id != Different,
        (Different, _, _) | (Unknown, Different, _) => false,
    }
}

fn compare(then: Option<&String>, now: Option<&String>) -> Compared {
    match (then, now) {
        (Some(then), Some(now)) if then == now => Compared::Same,
        (Some(_), Some(_)) => Compared::Different,
        _ => Compared::Unknown,
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

/// Returns whether an asset tag is the id of an instance on AWS Nitro.
fn is_ec2(tag: &str) -> bool {
    tag.starts_with("i-")
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
#[allow(clippy::disallowed_methods, reason = "tests lay out machines")]
mod tests;
