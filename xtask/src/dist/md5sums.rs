//! The control file `md5sums` of a deb, by which `dpkg --verify` checks the files of a host (deb-md5sums(5)).
//!
//! cargo-deb makes none. A deb is an ar(5) archive of three members, whose order is fixed (deb(5)).

use std::fmt::Write as _;
use std::io::{Cursor, Read as _};

use md5::{Digest as _, Md5};
use tar::{Archive, EntryType, Header};
use xz4rust::XzReader;

use super::tarball::{self, gzip};
use xtask::error::{Context, Result, Stop};

const MAGIC: &[u8] = b"!<arch>\n";
/// The length of the header of a member.
const HEADER: usize = 60;

/// A member of an archive.
struct Member {
    name: String,
    bytes: Vec<u8>,
}

/// Returns the deb with the control file.
///
/// # Errors
/// A file that is not a deb as cargo-deb makes it.
pub(super) fn added(deb: &[u8], epoch: u64) -> Result<Vec<u8>> {
    let mut members = members(deb)?;
    let [_, control, data] = members.as_mut_slice() else {
        return Err(Stop::failed("the deb does not have three members"));
    };
    let sums = sums(&unpacked(data)?).context(|| "could not read the files of the deb".into())?;
    let with_sums = with_file(&unpacked(control)?, "md5sums", sums.as_bytes(), epoch)
        .context(|| "could not read the control files of the deb".into())?;
    // The bytes of gzip are the same on every machine, and every dpkg reads it.
    *control = Member {
        name: "control.tar.gz".into(),
        bytes: gzip(&with_sums)?,
    };
    Ok(archive(&members, epoch))
}

fn members(deb: &[u8]) -> Result<Vec<Member>> {
    let broken = || Stop::failed("the deb is not an archive of ar(5)");
    let mut rest = deb.strip_prefix(MAGIC).ok_or_else(broken)?;
    let mut members = Vec::new();
    while let Some((header, after)) = rest.split_at_checked(HEADER) {
        let text = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&header[range]).trim().to_owned()
        };
        let size: usize = text(48..58).parse().map_err(|_| broken())?;
        let (bytes, after) = after.split_at_checked(size).ok_or_else(broken)?;
        members.push(Member {
            name: text(0..16).trim_end_matches('/').to_owned(),
            bytes: bytes.to_owned(),
        });
        rest = after.get(size % 2..).unwrap_or_default();
    }
    Ok(members)
}

fn archive(members: &[Member], epoch: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_owned();
    for member in members {
        let (name, size) = (&member.name, member.bytes.len());
        let header = format!("{name:<16}{epoch:<12}0     0     100644  {size:<10}`\n");
        bytes.extend(header.as_bytes());
        bytes.extend(&member.bytes);
        if size % 2 == 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}

fn unpacked(member: &Member) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match member.name.rsplit_once('.') {
        Some((_, "xz")) => XzReader::new(Cursor::new(member.bytes.clone())).read_to_end(&mut bytes),
        _ => return Err(Stop::failed(format!("{} is not packed by xz", member.name))),
    }
    .context(|| format!("could not unpack {}", member.name))?;
    Ok(bytes)
}

/// Returns the sum and the path of each regular file, in the order of the archive.
fn sums(tar: &[u8]) -> std::io::Result<String> {
    let mut lines = String::new();
    for entry in Archive::new(tar).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type() != EntryType::Regular {
            continue;
        }
        let path = entry.path()?.display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        for byte in Md5::digest(&bytes) {
            let _ = write!(lines, "{byte:02x}");
        }
        let _ = writeln!(lines, "  {}", path.trim_start_matches("./"));
    }
    Ok(lines)
}

/// Returns the archive with one more file.
fn with_file(tar: &[u8], name: &str, bytes: &[u8], epoch: u64) -> std::io::Result<Vec<u8>> {
    let mut copy = tar::Builder::new(Vec::new());
    for entry in Archive::new(tar).entries()? {
        let entry = entry?;
        let header: Header = entry.header().clone();
        copy.append(&header, entry)?;
    }
    let mut header = tarball::header(EntryType::Regular, 0o644, bytes.len() as u64, epoch);
    copy.append_data(&mut header, format!("./{name}"), bytes)?;
    copy.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_read_as_it_was_written() {
        let of = |name: &str, bytes: &[u8]| Member {
            name: name.to_owned(),
            bytes: bytes.to_owned(),
        };
        let written = archive(
            &[
                of("debian-binary", b"2.0\n"),
                of("odd", b"abc"),
                of("last", b""),
            ],
            7,
        );
        assert!(written.len().is_multiple_of(2));
        let read = members(&written).unwrap();
        let read: Vec<_> = read
            .iter()
            .map(|it| (it.name.as_str(), it.bytes.as_slice()))
            .collect();
        assert_eq!(
            read,
            [
                ("debian-binary", b"2.0\n".as_slice()),
                ("odd", b"abc"),
                ("last", b"")
            ]
        );
        for broken in [
            &written[1..],
            &written[..written.len() - 63],
            b"!<arch>\nshort",
        ] {
            assert!(members(broken).map_or(true, |read| read.len() < 3));
        }
    }

    #[test]
    fn the_sums_are_of_files_alone() {
        let mut tar = tar::Builder::new(Vec::new());
        let folder = &mut tarball::header(EntryType::Directory, 0o755, 0, 7);
        tar.append_data(folder, "./usr/", [].as_slice()).unwrap();
        let tar = tar.into_inner().unwrap();
        let tar = with_file(&tar, "usr/abc", b"abc", 7).unwrap();
        assert_eq!(
            sums(&tar).unwrap(),
            "900150983cd24fb0d6963f7d28e17f72  usr/abc\n"
        );
    }
}
