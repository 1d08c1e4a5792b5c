//! The ids that name a machine, and the values that many machines share, which name none of them.

use uuid::Uuid;

/// Instance ids of cloud-init's datasources without an id, and of the examples in its documentation.
const SHARED_INSTANCE_IDS: [&str; 12] = [
    "",
    "NO_PREVIOUS_INSTANCE_ID",
    "i-abcdefg",
    "iid-abcdefg",
    "iid-datasource",
    "iid-datasource-none",
    "iid-dsconfigdrive",
    "iid-dsovf",
    "iid-local01",
    "iid-vmware",
    "nocloud",
    "someid/somehostname",
];

/// Product UUIDs that boards of one kind share, in one of the two byte orders. The sources are the lists of
/// FreeBSD, GLPI, FOG, osquery and Elkeid, and public reports. [`has_pattern`] covers further ones.
const SHARED_UUIDS: [Uuid; 15] = [
    // Boards with an unset BIOS of American Megatrends, of many makers.
    Uuid::from_u128(0x03000200_0400_0500_0006_000700080009),
    // Foxconn.
    Uuid::from_u128(0x02000100_0300_0400_0005_000600070008),
    // Boards with an unset BIOS of Insyde.
    Uuid::from_u128(0x12345678_1234_5678_90ab_cddeefaabbcc),
    Uuid::from_u128(0x12345678_1234_5678_90ab_cddeefaafbc8),
    Uuid::from_u128(0x01234567_8910_1112_1314_151617181920),
    Uuid::from_u128(0x07090201_0103_0301_0807_060504030201),
    Uuid::from_u128(0x00000000_0000_0000_0807_060504030201),
    Uuid::from_u128(0x11111111_2222_3333_4444_555555555555),
    // Dell, with a service tag that was never set.
    Uuid::from_u128(0x4c4c4544_0000_2010_8020_80c04f202020),
    Uuid::from_u128(0x4c4c4544_0000_1010_8010_c4c04f313233),
    Uuid::from_u128(0x6ab5b300_538d_1014_9fb5_b0684d007b53),
    Uuid::from_u128(0x890e2d14_cacd_45d1_ae66_bc80e8bfeb0f),
    Uuid::from_u128(0x8e275844_178f_44a8_aceb_a7d7e5178c63),
    Uuid::from_u128(0xdc698397_fa54_4cf2_82c8_b1b5307a6a7f),
    // SolidRun LX2160A.
    Uuid::from_u128(0x8a95d198_7f46_11e5_bf8b_08002704d48e),
];

/// The machine-id that every installation of Whonix and Kicksecure has.
const SHARED_MACHINE_ID: &str = "b08dfa6083e7567a1921a715000001fb";

/// Fewest bytes other than zero of a UUID that names a board. A UUID that holds only a MAC address has up to
/// six.
const FEWEST_BYTES: usize = 4;

/// Returns an instance id, unless many machines share it.
#[must_use]
pub fn instance_id(text: &str) -> Option<String> {
    let id = text.trim();
    (!SHARED_INSTANCE_IDS.contains(&id)).then(|| id.to_owned())
}

/// Returns a product UUID, unless many boards share it.
#[must_use]
pub fn product_uuid(text: &str) -> Option<Uuid> {
    let uuid: Uuid = text.trim().parse().ok()?;
    let is_shared = |uuid: Uuid| SHARED_UUIDS.contains(&uuid) || has_pattern(*uuid.as_bytes());
    (!is_shared(uuid) && !is_shared(in_other_order(uuid))).then_some(uuid)
}

/// Returns the UUID that firmware reports for the same bytes in the other byte order: SMBIOS 2.6 (section
/// 7.2.1) made the first three fields little-endian, and firmware, hypervisors and kernels differ in that.
#[must_use]
pub fn in_other_order(uuid: Uuid) -> Uuid {
    Uuid::from_bytes_le(*uuid.as_bytes())
}

/// Returns whether the bytes repeat, count up, or are almost all the same.
fn has_pattern(bytes: [u8; 16]) -> bool {
    let repeats = |period: usize| (period..16).all(|at| bytes[at] == bytes[at - period]);
    let counts_up = bytes
        .windows(2)
        .all(|pair| pair[1] == pair[0].wrapping_add(1));
    let is_blank = bytes.iter().filter(|byte| **byte != 0).count() < FEWEST_BYTES;
    let is_unset = bytes[4..].iter().all(|byte| *byte == 0xff);
    [1, 2, 4, 8].into_iter().any(repeats) || counts_up || is_blank || is_unset
}

/// Returns a valid machine-id, unless many machines share it. The file holds `uninitialized` until the first
/// boot ends (machine-id(5)).
#[must_use]
pub fn machine_id(text: &str) -> Option<String> {
    let id = text.trim().to_ascii_lowercase();
    let is_valid = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let is_one_digit = id.bytes().all(|b| id.as_bytes().first() == Some(&b));
    (is_valid && !is_one_digit && id != SHARED_MACHINE_ID).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_many_machines_share_are_not_ids() {
        for uuid in [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "FEFEFEFE-FEFE-FEFE-FEFE-FEFEFEFEFEFE",
            "11111111-1111-1111-1111-111111111111",
            "58585858-5858-5858-5858-585858585858",
            "deadbeef-dead-beef-dead-beefdeadbeef",
            "12345678-1234-5678-1234-567812345678",
            "01234567-89ab-cdef-0123-456789abcdef",
            "03020100-0504-0706-0809-0a0b0c0d0e0f",
            "01020304-0506-0708-090a-0b0c0d0e0f10",
            "10000000-0000-8000-0040-000000000000",
            "00000000-0000-0000-0000-000000000001",
            "ffffff00-ffff-ffff-ffff-ffffffffffff",
            "Not Settable",
            "",
        ] {
            assert_eq!(product_uuid(uuid), None, "{uuid}");
        }
        for uuid in SHARED_UUIDS {
            assert_eq!(product_uuid(&format!("{uuid}\n")), None);
            let other = in_other_order(uuid).to_string().to_uppercase();
            assert_eq!(product_uuid(&other), None, "{other}");
        }
        for id in ["uninitialized\n", "", "no", SHARED_MACHINE_ID] {
            assert_eq!(machine_id(id), None, "{id}");
        }
        for digit in ["0", "f", "A"] {
            assert_eq!(machine_id(&digit.repeat(32)), None, "{digit}");
        }
        for id in SHARED_INSTANCE_IDS {
            assert_eq!(instance_id(&format!("{id}\n")), None, "{id}");
        }
    }

    #[test]
    fn ids_of_one_machine_are_ids() {
        for uuid in [
            "d0df4c54-4ecb-4a4b-9954-5bdf3ed5c3b8",
            // Dell, HP, Gigabyte and Supermicro, the last two with a MAC address between or behind constants.
            "4c4c4544-0042-3510-8052-b3c04f4b4e32",
            "31393138-3538-5a43-3135-353130323750",
            "03de0294-0480-0506-f806-d50700080009",
            "00000000-0000-0000-0000-ac1f6b123456",
            "ec2e1916-9099-7caf-fd21-012345abcdef",
        ] {
            let id = product_uuid(uuid).unwrap();
            assert_eq!(id.to_string(), uuid);
            assert_eq!(in_other_order(in_other_order(id)), id);
        }
        let id = product_uuid("5C241F42-A87F-FA60-6AF6-A46351CED0EB").unwrap();
        assert_eq!(
            in_other_order(id).to_string(),
            "421f245c-7fa8-60fa-6af6-a46351ced0eb"
        );
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(machine_id(&id.to_uppercase()).as_deref(), Some(id));
        assert_eq!(
            instance_id("i-0123456789abcdef0\n").as_deref(),
            Some("i-0123456789abcdef0")
        );
    }
}
