//! Documents before and after, read by Python's parsers and by cloud-init: several hundred random ones, and
//! all files of real boots of cloud-init.
//!
//! `cargo xtask test scrub` sets `SCRUB_PYTHON`, an interpreter with cloud-init on its path, and `SCRUB_BOOTS`,
//! with a folder of files for each boot.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::case::Case;
use crate::leaf::Sought;
use crate::packers;
use crate::random::scratch;
use crate::searcher::Searcher;
use crate::source::Source;
use crate::spliced::spliced;
use crate::subject::{self, Fate, Wanted};

/// Number of random documents that Python reads.
const DOCUMENTS: u64 = 400;
/// Number of random tokens in each file of a boot.
const SPLICED: u64 = 20;
/// The token of the boots; the tokens that replace it have the same length.
const TOKEN: &str = "enrl_Zq3vN8sK1xTfB6yR0uWm4cHd7pLj2gAe";

#[test]
#[ignore = "needs cloud-init's Python: `cargo xtask test scrub` makes it"]
fn parsers_read_the_same_apart_from_the_token() {
    let folder = scratch();
    let mut pairs = Pairs::new();
    let mut failures = Vec::new();
    for seed in 0..DOCUMENTS {
        let case = Case::parsed(&mut Source::seeded(seed));
        match case.run(folder.path()) {
            Ok(outcome) => {
                pairs.expect(&case.file.without().bytes);
                pairs.add(&case.file.bytes, &outcome.after, &case.sought.token);
            }
            Err(error) => failures.push(format!("seed {seed}: {error}")),
        }
    }
    pairs.compare();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
#[ignore = "needs cloud-init and files of its boots: `cargo xtask test scrub` makes them"]
fn files_of_cloud_init_read_the_same_apart_from_the_token() {
    let folder = scratch();
    let mut pairs = Pairs::new();
    let mut failures = Vec::new();
    for path in boots() {
        let before = fs::read(&path).unwrap();
        let copy = folder.path().join("file");
        fs::write(&copy, &before).unwrap();
        let fate = subject::file(&copy, &Wanted::secret(TOKEN));
        let after = fs::read(&copy).unwrap();
        let searcher = Searcher::of_pieces(TOKEN, &packers::unpack_other);
        let had = searcher.find(&before);
        let has = searcher.find(&after);
        let is_valid = match &fate {
            Fate::Clean => had.is_none() && before == after,
            Fate::Scrubbed => has.is_none() && before != after,
            Fate::Left(_) => true,
            Fate::Gone | Fate::Holding => false,
        };
        if had.is_some() {
            println!("{}: {fate:?} ({})", path.display(), had.unwrap_or_default());
        }
        if !is_valid {
            failures.push(format!("{}: {fate:?}, and {has:?}", path.display()));
        }
        pairs.add(&before, &after, TOKEN);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    pairs.compare();
}

#[test]
#[ignore = "needs cloud-init and files of its boots: `cargo xtask test scrub` makes them"]
fn pickles_of_cloud_init_with_other_tokens_read_the_same() {
    let folder = scratch();
    let mut pairs = Pairs::new();
    let mut failures = Vec::new();
    for (number, path) in (0..).zip(boots()) {
        let bytes = fs::read(&path).unwrap();
        for seed in 0..SPLICED {
            let mut source = Source::seeded(number << 16 | seed);
            let sought = Sought::of_length(&mut source, TOKEN.len());
            let file = spliced(&bytes, TOKEN, &sought.token);
            if !file.has_token() {
                break;
            }
            let case = Case { sought, file };
            match case.run(folder.path()) {
                Ok(outcome) if seed == 0 => {
                    pairs.add(&case.file.bytes, &outcome.after, &case.sought.token);
                }
                Ok(_) => {}
                Err(error) => failures.push(format!("{}, seed {seed}: {error}", path.display())),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    pairs.compare();
}

/// Returns all files of all boots.
#[track_caller]
fn boots() -> Vec<PathBuf> {
    let folder = made_by_the_suite("SCRUB_BOOTS");
    let mut files = Vec::new();
    walk(Path::new(&folder), &mut files);
    let pickles = files.iter().filter(|path| path.ends_with("obj.pkl"));
    assert!(pickles.count() > 1, "no pickles of cloud-init");
    files.sort();
    files
}

/// Returns what the suite has put into this variable; fails the test if it is not set.
#[track_caller]
fn made_by_the_suite(variable: &str) -> OsString {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is not set: `cargo xtask test scrub` sets it"))
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => walk(&entry.path(), files),
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}

/// Pairs of documents that Python is to compare.
struct Pairs {
    folder: tempfile::TempDir,
    count: u64,
}

impl Pairs {
    fn new() -> Self {
        Self {
            folder: scratch(),
            count: 0,
        }
    }

    /// Adds the expected result of the next pair.
    fn expect(&self, expected: &[u8]) {
        self.write("truth", expected);
    }

    fn write(&self, kind: &str, bytes: &[u8]) {
        let name = format!("{:05}.{kind}", self.count);
        fs::write(self.folder.path().join(name), bytes).unwrap();
    }

    fn add(&mut self, before: &[u8], after: &[u8], token: &str) {
        self.write("before", before);
        self.write("after", after);
        self.write("token", token.as_bytes());
        self.count += 1;
    }

    #[track_caller]
    fn compare(&self) {
        let output = Command::new(made_by_the_suite("SCRUB_PYTHON"))
            .arg("-B")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scrub/parse.py"))
            .arg(self.folder.path())
            .output()
            .unwrap();
        let report = String::from_utf8_lossy(&output.stdout);
        println!("{}", report.lines().last().unwrap_or_default());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{report}\n{errors}");
    }
}
