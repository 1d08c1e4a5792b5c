//! Random documents by the thousand.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::case::{Case, Outcome};
use crate::node::Part;
use crate::packers;
use crate::searcher::Searcher;
use crate::source::{Source, shrink};
use crate::subject::Fate;

/// Cases of a plain `cargo test`: a debug build takes its time.
const CASES: u64 = 200;
/// A failure is shrunk; of more than that, the first lines are enough.
const MOST_FAILURES: usize = 5;

#[test]
fn nothing_but_the_token_changes_and_what_stays_is_named() {
    let cases = number("SCRUB_CASES").unwrap_or(CASES);
    let first = number("SCRUB_SEED").unwrap_or(0);
    let missing = packers::missing();
    println!("{cases} cases from seed {first} on; packers missing: {missing:?}");
    let is_suite = std::env::var_os("SCRUB_CASES").is_some();
    assert!(missing.is_empty() || !is_suite, "{missing:?}");

    let (next, table) = (AtomicU64::new(first), Mutex::new(Table::default()));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let folder = scratch();
                let mut own = Table::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + cases || failures.lock().unwrap().len() >= MOST_FAILURES {
                        break;
                    }
                    if let Err(failure) = one(seed, cases > CASES, folder.path(), &mut own) {
                        println!("{failure}");
                        failures.lock().unwrap().push(failure);
                    }
                }
                table.lock().unwrap().add(&own);
            });
        }
    });
    let table = table.into_inner().unwrap();
    println!("{table}");
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} cases failed", failures.len());
    if cases >= CASES {
        table.is_complete();
    }
}

#[test]
fn the_truth_of_a_document_is_true() {
    let (cases, is_large) = match number("SCRUB_CASES") {
        Some(cases) => (cases.min(1000), true),
        None => (CASES, false),
    };
    for seed in 0..cases {
        let case = Case::draw(&mut Source::seeded(seed), is_large);
        let without = case.file.without();
        let again = without.without();
        case.file.check_file(&case.file.bytes).unwrap();
        case.file
            .check_file(&without.bytes)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(again.bytes == without.bytes, "seed {seed}");
        let searcher = Searcher::of_pieces(&case.sought.token, &packers::unpack_other);
        let found = searcher.find(&case.file.bytes);
        assert!(
            found.is_some() == case.file.has_token(),
            "seed {seed}: {found:?} in {:?}",
            case.forms()
        );
        if !case.file.parts.iter().any(Part::has_archive) && !case.may_be_left() {
            assert_eq!(searcher.find(&without.bytes), None, "seed {seed}");
        }
        // Each other byte is not the token's.
        for at in (0..case.file.bytes.len()).step_by(97.max(case.file.bytes.len() / 40)) {
            let mut wrong = without.bytes.clone();
            wrong[at] ^= 1;
            if case.file.mask[at] == 0 && !case.file.is_archive() {
                case.file.check_file(&wrong).unwrap_err();
            }
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap())
}

/// In memory, where there is such a folder: each case is synced to the disk.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn one(seed: u64, large: bool, folder: &Path, table: &mut Table) -> Result<(), String> {
    let mut source = Source::seeded(seed);
    let case = Case::draw(&mut source, large);
    match run(&case, folder) {
        Ok(outcome) => {
            table.count(&case, &outcome.fate);
            Ok(())
        }
        Err(error) => {
            if let Some(kept) = std::env::var_os("SCRUB_KEEP") {
                let kept = Path::new(&kept);
                std::fs::write(kept.join(format!("{seed}")), &case.file.bytes).unwrap();
                std::fs::copy(folder.join("file"), kept.join(format!("{seed}.after"))).unwrap();
            }
            let is_of_test = error.starts_with("TEST");
            let draw = |tape: &[u64]| Case::draw(&mut Source::recorded(tape), large);
            let small = shrink(source.tape(), |tape| {
                run(&draw(tape), folder).is_err_and(|e| e.starts_with("TEST") == is_of_test)
            });
            let case = draw(&small);
            let failure = run(&case, folder).err().unwrap_or_default();
            Err(format!(
                "seed {seed}: {error}\n  shrunk, {} bytes of {:?}: {failure}\n  sought: {:?}\n  file: {}",
                case.file.bytes.len(),
                case.forms(),
                case.sought,
                case.file.bytes[..case.file.bytes.len().min(2000)].escape_ascii(),
            ))
        }
    }
}

/// A panic of the scrubber is a failure like others.
fn run(case: &Case, folder: &Path) -> Result<Outcome, String> {
    let ran = catch_unwind(AssertUnwindSafe(|| case.run(folder)));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map_or("", String::as_str);
        Err(format!("panic: {text}"))
    })
}

/// Outcomes by form.
#[derive(Default)]
struct Table {
    rows: BTreeMap<String, [u64; 3]>,
    reasons: BTreeMap<String, u64>,
}

impl Table {
    fn count(&mut self, case: &Case, fate: &Fate) {
        let column = match fate {
            Fate::Scrubbed => 0,
            Fate::Left(_) => 1,
            Fate::Clean | Fate::Gone | Fate::Holding => 2,
        };
        let kind = match (case.file.has_token(), case.may_be_left()) {
            (false, _) => "ALL without a token",
            (true, false) => "ALL that must be scrubbed",
            (true, true) => "ALL that may be left",
        };
        for row in case.forms().into_iter().chain([kind]) {
            self.rows.entry(row.to_owned()).or_default()[column] += 1;
        }
        if let Fate::Left(reason) = fate {
            // Numbers in it would make each reason another.
            let reason = reason.replace(|c: char| c.is_ascii_digit(), "#");
            *self.reasons.entry(reason).or_default() += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        for (row, counts) in &other.rows {
            let own = self.rows.entry(row.clone()).or_default();
            own.iter_mut()
                .zip(counts)
                .for_each(|(own, count)| *own += count);
        }
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
    }

    /// A generator that makes nothing of a form tests nothing of it.
    fn is_complete(&self) {
        for form in [
            "plain",
            "base64",
            "base64 wrapped",
            "base64 indented",
            "base64url",
            "quoted-printable",
            "json",
            "utf-16",
            "gzip",
            "a whole archive",
            "three layers",
            "no token",
            "yaml block",
        ] {
            assert!(self.rows.contains_key(form), "no case of {form}");
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<28}{:>10}{:>10}{:>10}",
            "form", "scrubbed", "left", "clean"
        )?;
        for (row, [scrubbed, left, clean]) in &self.rows {
            writeln!(f, "{row:<28}{scrubbed:>10}{left:>10}{clean:>10}")?;
        }
        for (reason, count) in &self.reasons {
            writeln!(f, "left {count:>8} times: {reason}")?;
        }
        Ok(())
    }
}
