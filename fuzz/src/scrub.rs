//! Files that contain a token in any encoding.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;

#[expect(dead_code, reason = "the test looks for pieces of a token")]
#[path = "../../tests/scrub/searcher.rs"]
mod searcher;
#[path = "../../tests/scrub/subject.rs"]
mod subject;

use searcher::Searcher;
use subject::{Fate, Wanted};

const TOKEN: &str = "enrl_Zq3vN8sK";

thread_local! {
    static FILE: RefCell<TheFile> = RefCell::new(TheFile::new());
}

/// For any file: a second scrub changes nothing, a token that is still readable is reported, and only the
/// bytes of a token change. The last two bytes choose the encoding and the place of the token in the others.
pub fn scrub(bytes: &[u8]) {
    let [rest @ .., form, place] = bytes else {
        return;
    };
    let searcher = Searcher::of_all(TOKEN, &|_| None);
    FILE.with_borrow(|file| {
        let has_token = searcher.find(rest).is_some();
        let after = file.scrubbed(rest, &Wanted::secret(TOKEN), Some(&searcher));
        // The token is too short to be recognised by its form.
        file.scrubbed(rest, &Wanted::any_token(), None);
        if has_token {
            return;
        }
        assert!(after == rest, "no token in it, and changed");
        let place = rest.len() * usize::from(*place) / 256;
        let (before, behind) = rest.split_at(place);
        let (code, own) = encoded(*form);
        let with = [before, b"\"", &code, b"\"", behind].concat();
        let after = file.scrubbed(&with, &Wanted::secret(TOKEN), Some(&searcher));
        assert_eq!(after.len(), with.len());
        for (at, (was, is)) in with.iter().zip(&after).enumerate() {
            let is_own = at.checked_sub(place + 1).and_then(|at| own.get(at));
            assert!(
                was == is || is_own == Some(&true),
                "byte {at} was {was} and is {is}"
            );
        }
    });
}

/// A file in memory, if /dev/shm exists: each run syncs it.
struct TheFile(PathBuf);

impl TheFile {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            memory.to_owned()
        } else {
            std::env::temp_dir()
        };
        Self(folder.join(format!("monsys-fuzz-scrub-{}", std::process::id())))
    }

    /// Scrubs these bytes, checks the result and returns it; the searcher finds no token in it.
    fn scrubbed(&self, bytes: &[u8], wanted: &Wanted, searcher: Option<&Searcher<'_>>) -> Vec<u8> {
        fs::write(&self.0, bytes).expect("a file");
        let fate = subject::file(&self.0, wanted);
        let after = fs::read(&self.0).expect("a file");
        match &fate {
            Fate::Clean => assert!(after == bytes, "clean, and changed"),
            Fate::Scrubbed => assert!(after != bytes, "reported as scrubbed, but unchanged"),
            Fate::Left(reason) => assert!(!reason.is_empty()),
            Fate::Gone | Fate::Holding => panic!("{fate:?}"),
        }
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            assert_eq!(after.len(), bytes.len());
        }
        if !matches!(fate, Fate::Left(_)) {
            let found = searcher.and_then(|searcher| searcher.find(&after));
            // In arbitrary bytes, the searcher joins parts that no reader would join, such as text around
            // zeros or soft line breaks. Documents are for tests/scrub.
            assert_ne!(found.as_deref(), Some("plain"), "{fate:?}");
        }
        let again = subject::file(&self.0, wanted);
        assert!(fs::read(&self.0).expect("a file") == after, "changed again");
        assert!(!matches!(again, Fate::Scrubbed), "scrubbed again");
        fs::remove_file(&self.0).expect("a file");
        after
    }
}

/// Returns the token in this encoding, and the range of bytes that belong to the token.
fn encoded(form: u8) -> (Vec<u8>, Vec<bool>) {
    let mut code = Vec::new();
    let mut own = Vec::new();
    let mut put = |bytes: &[u8], is_own: bool| {
        code.extend_from_slice(bytes);
        own.resize(code.len(), is_own);
    };
    let token = TOKEN.as_bytes();
    match form % 9 {
        0 => put(token, true),
        number @ 1..=4 => {
            // Three alignments in one line, and one in indented lines.
            let lead = usize::from(number % 3);
            let text = [&b"+++"[..lead], token, b"+++++"].concat();
            let digits = BASE64_STANDARD_NO_PAD.encode(text).into_bytes();
            for (at, digit) in digits.iter().enumerate() {
                if number == 4 && at > 0 && at % 8 == 0 {
                    put(b"\n   ", false);
                }
                let bits = at * 6..at * 6 + 6;
                let is_own = bits.end > lead * 8 && bits.start < (lead + token.len()) * 8;
                put(&[*digit], is_own);
            }
        }
        5 => {
            put(&token[..8], true);
            put(b"=\r\n", false);
            put(&token[8..], true);
        }
        6 => token.iter().for_each(|byte| put(&[*byte, 0], true)),
        7 => token.iter().for_each(|byte| put(&[0, *byte], true)),
        _ => {
            put(b"\\\"a\\\":\\\"", false);
            put(token, true);
            put(b"\\\"", false);
        }
    }
    (code, own)
}
