//! The scrubber beside random documents, beside Python's parsers, and beside what real boots of
//! cloud-init have left.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Count, rust};
use crate::cloud_init::CloudInit;
use crate::error::{Context, Result, Stop};
use crate::tools;

/// The packers, and Debian's package of each.
const PROGRAMS: [(&str, &str); 5] = [
    ("/usr/bin/gzip", "gzip"),
    ("/usr/bin/pigz", "pigz"),
    ("/usr/bin/python3", "python3"),
    ("/usr/bin/zopfli", "zopfli"),
    ("/usr/bin/zstd", "zstd"),
];
/// The same as in tests/scrub/parsers.rs.
const TOKEN: &str = "enrl_Zq3vN8sK1xTfB6yR0uWm4cHd7pLj2gAe";
/// Documents of a run, and of a long one.
const CASES: [u64; 2] = [2_000, 1_000_000];

/// Documents of this run.
static WANTED: AtomicU64 = AtomicU64::new(CASES[0]);

/// Sets how many documents the suite tries.
pub(crate) fn be_long(is_long: bool) {
    WANTED.store(CASES[usize::from(is_long)], Ordering::Relaxed);
}

pub(crate) async fn run() -> Result<Count> {
    tools::programs(&PROGRAMS).await?;
    let cloud_init = CloudInit::get().await?;
    let boots = boots(&cloud_init).await?;
    let cases = WANTED.load(Ordering::Relaxed).to_string();
    rust::cargo_test_with(
        &[
            "--package=monsys-agent",
            "--test=scrub",
            "--profile=scrub",
            "--",
            "--include-ignored",
            "--nocapture",
        ],
        &[
            ("SCRUB_CASES", OsStr::new(&cases)),
            ("SCRUB_BOOTS", boots.as_os_str()),
            ("SCRUB_PYTHON", cloud_init.python().as_os_str()),
        ],
    )
    .await
}

/// What cloud-init keeps after a first boot with each user data, a folder a boot.
async fn boots(cloud_init: &CloudInit) -> Result<PathBuf> {
    let dir = tools::target().join("scrub-boots");
    let after = "tar -C / -cf - var/lib/cloud run/cloud-init var/log/cloud-init.log \
                 var/log/cloud-init-output.log | base64 -w0";
    let wanted = [
        ("plain", cloud_config()),
        ("gzip", gzip(&cloud_config())),
        ("mime", message()),
    ];
    let stamp = format!("{after}{wanted:?}");
    tools::once(&dir, &stamp, async || {
        for (name, user_data) in &wanted {
            println!("booting cloud-init with user data: {name}");
            let boot = cloud_init
                .first_boot(user_data, "instance-id: i-1\n", Some(after))
                .await?;
            if !boot.is_done() {
                return Err(Stop::failed(boot.told()));
            }
            let archive = BASE64_STANDARD
                .decode(boot.after.trim())
                .context(|| format!("no archive of the boot:\n{}", boot.told()))?;
            let folder = dir.join(name);
            fs::create_dir_all(&folder)
                .and_then(|()| unpack(&archive, &folder))
                .context(|| format!("could not fill {}", folder.display()))?;
        }
        Ok(())
    })
    .await?;
    Ok(dir)
}

/// The regular files of the archive; its links point out of the folder.
fn unpack(archive: &[u8], folder: &Path) -> std::io::Result<()> {
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_file() {
            entry.unpack_in(folder)?;
        }
    }
    Ok(())
}

/// The token in each of the ways that `write_files` and `runcmd` know.
fn cloud_config() -> Vec<u8> {
    let file = format!("# monsys\nMONSYS_TOKEN={TOKEN}\nMONSYS_TAGS=prod,web\n");
    let code = BASE64_STANDARD.encode(&file);
    let packed = BASE64_STANDARD.encode(gzip(file.as_bytes()));
    format!(
        "#cloud-config\nwrite_files:\n\
         - path: /run/plain\n  content: MONSYS_TOKEN={TOKEN}\n\
         - path: /run/block\n  content: |\n    # one\n    MONSYS_TOKEN={TOKEN}\n\
         - path: /run/b64\n  encoding: b64\n  content: {code}\n\
         - path: /run/b64-block\n  encoding: b64\n  content: |\n    {}\n\
         - path: /run/binary\n  content: !!binary |\n    {}\n\
         - path: /run/gz\n  encoding: gz+b64\n  content: {packed}\n\
         runcmd:\n- [sh, -c, \"MONSYS_TOKEN={TOKEN} true\"]\n- echo {TOKEN} >/dev/null\n",
        lines(&code).join("\n    "),
        lines(&code).join("\n    "),
    )
    .into_bytes()
}

/// A message with a part in base64, one in quoted-printable and one packed.
fn message() -> Vec<u8> {
    let config = String::from_utf8_lossy(&cloud_config()).into_owned();
    let script = format!(
        "#!/bin/sh\nMONSYS_TOKEN=3D{} true\n",
        TOKEN.replace("yR", "y=\nR")
    );
    let code = |bytes: &[u8]| lines(&BASE64_STANDARD.encode(bytes)).join("\n");
    let part = |kind: &str, encoding: &str, name: &str, body: &str| {
        format!(
            "--==1==\nContent-Type: {kind}; charset=\"utf-8\"\nMIME-Version: 1.0\n\
             Content-Transfer-Encoding: {encoding}\n\
             Content-Disposition: attachment; filename=\"{name}\"\n\n{body}\n"
        )
    };
    [
        "Content-Type: multipart/mixed; boundary=\"==1==\"\nMIME-Version: 1.0\n\n".to_owned(),
        part(
            "text/cloud-config",
            "base64",
            "a.cfg",
            &code(config.as_bytes()),
        ),
        part("text/x-shellscript", "quoted-printable", "b.sh", &script),
        part("text/cloud-config", "7bit", "c.cfg", &config),
        part(
            "application/gzip",
            "base64",
            "d.gz",
            &code(&gzip(config.as_bytes())),
        ),
        "--==1==--\n".to_owned(),
    ]
    .concat()
    .into_bytes()
}

fn lines(code: &str) -> Vec<String> {
    let chars: Vec<char> = code.chars().collect();
    chars.chunks(76).map(|line| line.iter().collect()).collect()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // A Vec takes all that is written.
    let _written = encoder.write_all(content);
    encoder.finish().unwrap_or_default()
}
