use super::*;
use crate::store::proof;
use proptest::prelude::*;

const KEY: &str = "INSTALL_TOKEN";
const NOTE: &str = "# INSTALL_TOKEN consumed during enrollment";
const SECRET: &str = "0123456789abcdef";

fn get(text: &str, key: &str) -> Option<String> {
    let value = value(text.as_bytes(), key).unwrap();
    value.map(|value| value.as_str().to_owned())
}

fn put(text: &str, value: &str) -> String {
    let changed = with_value(text.as_bytes(), "SENSOR_TOKEN", value);
    String::from_utf8(changed.to_vec()).unwrap()
}

fn consume(text: &str) -> String {
    let kept = ["SENSOR_ID"];
    let changed = without_secret(text.as_bytes(), KEY, NOTE, SECRET, &kept);
    String::from_utf8(changed.to_vec()).unwrap()
}

#[test]
fn a_value_is_read_as_a_shell_and_systemd_read_it() {
    for (text, expected) in [
        ("A=b", Some("b")),
        ("A=b\r\nB=c\r\n", Some("b")),
        ("\u{feff}A=b\n", Some("b")),
        ("export A=b\n", Some("b")),
        (" \texport\t A = b \n", Some("b")),
        ("A=\"b c\"\n", Some("b c")),
        ("A='b'\"c\"d # note\n", Some("bcd")),
        ("A=b#c\n", Some("b#c")),
        ("A=b=c==\n", Some("b=c==")),
        ("A=1\nA=2\n", Some("2")),
        ("A=b\\\n c\nB=d\n", Some("b c")),
        ("A=\"b\\\r\nc\"\r\n", Some("bc")),
        ("A=b\\\\\nB=c\n", Some("b\\")),
        ("# A=b\n#A=b\n; A=b\n", None),
        ("# x\\\nA=b\n", Some("b")),
        ("A=1\nA=\n", None),
        ("A=''\n", None),
        ("A='  '\n", None),
        ("A=1\nA=\" \t\"\n", None),
        ("AA=b\nB A=c\nA.=d\n=e\n", None),
        ("", None),
    ] {
        assert_eq!(get(text, "A").as_deref(), expected, "{text:?}");
    }
}

#[test]
fn an_error_never_repeats_the_value() {
    assert_eq!(
        value(b"A=\"secret\nB=c\n", "A").unwrap_err(),
        "the value has an unclosed quote"
    );
    assert_eq!(
        value(b"A=\xff\n", "A").unwrap_err(),
        "the value is not UTF-8"
    );
    assert!(
        value(b"# \xff\nA=b\n", "A").unwrap().is_some(),
        "another line's bytes"
    );
}

#[test]
fn a_value_is_set_in_place_or_appended() {
    for (text, expected) in [
        ("", "SENSOR_TOKEN=t\n"),
        ("A=b\n", "A=b\nSENSOR_TOKEN=t\n"),
        ("A=b", "A=b\nSENSOR_TOKEN=t\n"),
        ("A=b\r\nC=d", "A=b\r\nC=d\r\nSENSOR_TOKEN=t\r\n"),
        ("SENSOR_TOKEN=\nA=b\n", "SENSOR_TOKEN=t\nA=b\n"),
        ("A=b\nSENSOR_TOKEN=old", "A=b\nSENSOR_TOKEN=t"),
        (
            "\u{feff} export SENSOR_TOKEN = 'o l d' # x\r\n#\r\n",
            "\u{feff} export SENSOR_TOKEN =t\r\n#\r\n",
        ),
        ("SENSOR_TOKEN=a\\\nb\nA=b\n", "SENSOR_TOKEN=t\nA=b\n"),
        (
            "SENSOR_TOKEN=a\nA=b\nSENSOR_TOKEN=c\n",
            "SENSOR_TOKEN=t\nA=b\nSENSOR_TOKEN=t\n",
        ),
        ("A=b\\", "A=b\\\n\nSENSOR_TOKEN=t\n"),
        ("A=b\\\r", "A=b\\\r\n\nSENSOR_TOKEN=t\n"),
        ("A=b\\\n", "A=b\\\n\nSENSOR_TOKEN=t\n"),
        ("#SENSOR_TOKEN=a\n", "#SENSOR_TOKEN=a\nSENSOR_TOKEN=t\n"),
    ] {
        assert_eq!(put(text, "t"), expected, "{text:?}");
    }
}

#[test]
fn the_secret_is_consumed_in_every_form() {
    for (text, expected) in [
        ("INSTALL_TOKEN=0123456789abcdef\n", "NOTE\n"),
        (
            "A=b\r\n\tINSTALL_TOKEN=\"0123456789abcdef\"\r\nC=d\r\n",
            "A=b\r\nNOTE\r\nC=d\r\n",
        ),
        ("export INSTALL_TOKEN = '0123456789abcdef' # once", "NOTE"),
        (
            "INSTALL_TOKEN=an-older-one\nINSTALL_TOKEN=0123456789abcdef\n",
            "NOTE\nNOTE\n",
        ),
        ("INSTALL_TOKEN=01234567\\\n89abcdef\nA=b\n", "NOTE\nA=b\n"),
        ("\u{feff}INSTALL_TOKEN=x\n", "\u{feff}NOTE\n"),
        (
            "INSTALL_TOKEN=\nINSTALL_TOKEN_FILE=/x\n",
            "NOTE\nINSTALL_TOKEN_FILE=/x\n",
        ),
        (
            "# was INSTALL_TOKEN=0123456789abcdef!\n",
            "# was INSTALL_TOKEN=[consumed]!\n",
        ),
        (
            "X=\"0123456789abcdef 0123456789abcdef\"\n",
            "X=\"_consumed_ _consumed_\"\n",
        ),
        (
            "SENSOR_ID=0123456789abcdef\n",
            "SENSOR_ID=0123456789abcdef\n",
        ),
        ("# nothing\n\n\nA=b", "# nothing\n\n\nA=b"),
    ] {
        let expected = expected.replace("NOTE", NOTE);
        assert_eq!(consume(text), expected, "{text:?}");
        assert_eq!(consume(&expected), expected, "a second run changes nothing");
    }
    let short = without_secret(b"# a b c\nINSTALL_TOKEN=b\n", KEY, "-", "b", &[]);
    assert_eq!(short.as_slice(), b"# a b c\n-\n");
}

#[test]
fn a_file_is_replaced_atomically_with_its_owner_and_0600() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("etc/ravenxcope/sensor-agent.env");
    let file = EnvFile::load(&path, &path, Access::private()).unwrap();
    assert_eq!((file.text(), file.get("A").unwrap()), (&b""[..], None));
    file.prove(100, Path::new(proof::MOUNTS)).unwrap();
    assert!(!path.exists() && file.folder().is_dir());
    file.replace(b"A=b\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let file = EnvFile::load(&path, &path, Access::private()).unwrap();
    file.prove(100, Path::new(proof::MOUNTS)).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"A=b\n");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(std::fs::read_dir(file.folder()).unwrap().count(), 1);
    assert!(!format!("{file:?}").contains("A=b"));
}

#[test]
fn a_link_is_read_and_not_replaced_and_a_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    EnvFile::absent(&real, Access::private())
        .replace(b"A=b\n")
        .unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let file = EnvFile::load(&link, &link, Access::private()).unwrap();
    assert!(file.get("A").unwrap().is_some());
    for refused in [
        file.replace(b"A=c\n"),
        file.prove(10, Path::new(proof::MOUNTS)),
        EnvFile::load(folder.path(), folder.path(), Access::private()).map(|_| ()),
    ] {
        assert_eq!(refused.unwrap_err().id(), ErrorId::EnvFileUnwritable);
    }
    assert_eq!(std::fs::read(&real).unwrap(), b"A=b\n");
}

/// Generates text from the tokens that matter in an env file.
fn env_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "INSTALL_TOKEN",
        "SENSOR_TOKEN",
        "SENSOR_ID",
        "=",
        "=",
        "\n",
        "\n",
        "\r\n",
        "\\",
        "\"",
        "'",
        "#",
        " ",
        "export ",
        SECRET,
        "a",
        "é",
        "\u{feff}",
        "\r",
        "$",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Returns the lines of `text` that do not set `key`, without the line end that is added at the
/// end of the file before an appended line.
fn others(text: &str, key: &str) -> Vec<String> {
    let text = text.as_bytes();
    let others = lines(text).filter(|line| !line.sets(key));
    others
        .map(|line| {
            String::from_utf8_lossy(line.content)
                .trim_end_matches(['\r', '\n'])
                .to_owned()
        })
        .collect()
}

proptest! {
    #[test]
    fn what_is_set_comes_back_and_nothing_else_changes(text in env_text(), token in "[ -~]{0,20}[!-~][ -~]{0,19}") {
        let changed = put(&text, &token);
        prop_assert_eq!(get(&changed, "SENSOR_TOKEN"), Some(token.clone()));
        prop_assert_eq!(others(&changed, "SENSOR_TOKEN"), others(&text, "SENSOR_TOKEN"));
        prop_assert_eq!(put(&changed, &token), changed);
    }

    #[test]
    fn nothing_of_the_secret_survives_and_nothing_else_changes(text in env_text()) {
        let changed = consume(&text);
        prop_assert_eq!(get(&changed, KEY), None);
        let left = others(&changed, "SENSOR_ID").concat();
        prop_assert!(!left.contains(SECRET), "{}", changed);
        let clean = |line: String| line.replace(SECRET, "[consumed]").replace("_consumed_", "[consumed]");
        let before: Vec<String> = others(&text, KEY).into_iter().map(clean).collect();
        let after: Vec<String> = others(&changed, KEY).into_iter().map(clean).filter(|line| !line.ends_with(NOTE)).collect();
        prop_assert_eq!(after, before);
    }

    #[test]
    fn never_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = value(&text, "A");
        let _ = with_value(&text, "A", "b");
        let _ = without_secret(&text, "A", "#", SECRET, &[]);
    }
}
