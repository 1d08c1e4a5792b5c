//! The files that cloud-init leaves after real boots, for the suite `scrub`, which calls this test first.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::boot::{Boot, suite_folder};

/// The token that tests/scrub/readers.rs looks for.
const TOKEN: &str = "enrl_Zq3vN8sK1xTfB6yR0uWm4cHd7pLj2gAe";
/// The files as an archive, after the boot.
const ARCHIVE: &str = "tar -C / -cf - var/lib/cloud run/cloud-init var/log/cloud-init.log \
                       var/log/cloud-init-output.log | base64 -w0";

/// Boots with each user data, and unpacks the regular files into a folder of its own.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn cloud_init_leaves_files_for_the_scrubber() {
    let folder = suite_folder("MONSYS_TEST_BOOTS");
    for (name, user_data) in [
        ("plain", cloud_config()),
        ("gzip", gzip(&cloud_config())),
        ("mime", message()),
    ] {
        let boot = Boot::of(&user_data, ARCHIVE);
        boot.expect(boot.is_done(), name);
        let archive = BASE64_STANDARD.decode(boot.after.trim()).unwrap();
        let folder = folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        let mut tar = Command::new("tar")
            .args(["--extract", "--file=-", "--directory"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        tar.stdin.take().unwrap().write_all(&archive).unwrap();
        assert!(tar.wait().unwrap().success());
    }
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
