//! Archives, made and read by common packers: flate2, Python's zlib, bz2 and lzma in one worker for each
//! thread, and the programs gzip, pigz, zopfli and zstd.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};

use crate::source::Source;

/// A way to make an archive.
#[derive(Clone, Debug)]
pub(crate) enum Packer {
    /// flate2, at a level.
    Flate2(u32),
    /// flate2, with a name, a comment and an extra field in the header.
    Named(u32),
    /// flate2, with this number of members.
    Members(usize, u32),
    /// flate2, truncated.
    Torn(u32),
    /// A program of [`PROGRAMS`], and the option for its level.
    Program(&'static str, &'static str),
    /// Python: `gzip`, `bz2` or `xz`, at a level.
    Python(&'static str, usize),
}

/// The programs and their levels.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("gzip", &["-1", "-6", "-9"]),
    ("pigz", &["-1", "-6", "-9", "-11"]),
    ("zopfli", &["--i1"]),
    ("zstd", &["-1", "-3", "-19"]),
];

/// The installed programs of [`PROGRAMS`].
static HERE: LazyLock<Vec<(&str, &[&str])>> = LazyLock::new(|| {
    let is_here = |name: &str| {
        let mut program = Command::new(name);
        program.arg("-h").stdin(Stdio::null());
        program.output().is_ok()
    };
    PROGRAMS
        .into_iter()
        .filter(|(name, _)| is_here(name))
        .collect()
});

/// Returns the packers that are not installed.
pub(crate) fn missing() -> Vec<&'static str> {
    let is_here = |name: &str| HERE.iter().any(|(own, _)| *own == name);
    let mut missing: Vec<_> = PROGRAMS.into_iter().map(|(name, _)| name).collect();
    missing.retain(|name| !is_here(name));
    if python("gzip", 6, b"").is_none() {
        missing.push("python3");
    }
    missing
}

impl Packer {
    /// Draws one for gzip.
    pub(crate) fn gzip(source: &mut Source) -> Self {
        let level = u32::try_from(source.below(10)).expect("a digit");
        match source.below(32) {
            0..12 => Self::Flate2(level),
            12..15 => Self::Named(level),
            15..19 => Self::Members(source.between(2, 3), level),
            19..21 => Self::Torn(level),
            21..29 => Self::Python("gzip", source.below(10)),
            _ => Self::program(source, |name| name != "zstd").unwrap_or(Self::Flate2(level)),
        }
    }

    /// Draws one for another format.
    pub(crate) fn other(source: &mut Source) -> Self {
        match source.below(3) {
            0 => Self::Python("xz", source.below(7)),
            1 => Self::Python("bz2", source.between(1, 9)),
            _ => Self::program(source, |name| name == "zstd").unwrap_or(Self::Python("bz2", 9)),
        }
        .or_without_python()
    }

    fn program(source: &mut Source, wanted: fn(&str) -> bool) -> Option<Self> {
        let all: Vec<_> = HERE.iter().filter(|(name, _)| wanted(name)).collect();
        let (name, levels) = all.get(source.below(all.len()))?;
        Some(Self::Program(name, source.pick(levels)))
    }

    fn or_without_python(self) -> Self {
        match self {
            Self::Python(..) if python("gzip", 6, b"").is_none() => Self::Flate2(6),
            other => other,
        }
    }

    /// Returns its name in the table of counts.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Torn(_) => "gzip torn",
            Self::Members(..) => "gzip members",
            Self::Program("zstd", _) => "zstd",
            Self::Python("xz", _) => "xz",
            Self::Python("bz2", _) => "bz2",
            _ => "gzip",
        }
    }

    /// Returns whether it makes gzip that can be read to its end.
    pub(crate) fn is_gzip(&self) -> bool {
        self.name() == "gzip" || self.name() == "gzip members"
    }

    /// Returns where the content of each member ends.
    pub(crate) fn cuts(&self, length: usize) -> Vec<usize> {
        let count = match self {
            Self::Members(count, _) => *count,
            _ => 1,
        };
        (1..=count).map(|member| length * member / count).collect()
    }

    /// Returns `content` as one member.
    pub(crate) fn pack(&self, content: &[u8]) -> Vec<u8> {
        match self {
            Self::Flate2(level) | Self::Members(_, level) => {
                member(GzBuilder::new(), content, *level)
            }
            Self::Named(level) => {
                let header = GzBuilder::new()
                    .mtime(1_700_000_000)
                    .filename("cloud-init-output.log")
                    .comment("rotated")
                    .extra(vec![1, 2, 0, 0]);
                member(header, content, *level)
            }
            Self::Torn(level) => {
                let mut bytes = member(GzBuilder::new(), content, *level);
                // The content is complete, but its checksum is missing.
                bytes.truncate(bytes.len() - 6);
                bytes
            }
            Self::Program(name @ ("gzip" | "pigz"), level) => {
                // Without the time, which would differ in each run.
                program(name, &["-n", level, "-c"], content)
            }
            Self::Program(name, level) => program(name, &[level, "-c"], content),
            Self::Python(format, level) => {
                python(format, *level, content).expect("drawn only if installed")
            }
        }
    }

    /// Returns the content of an archive of all members.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub(crate) fn unpack(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut content = Vec::new();
        match self {
            Self::Torn(_) => {
                let _cut_off = MultiGzDecoder::new(bytes).read_to_end(&mut content);
            }
            Self::Program("zstd", _) | Self::Python("xz" | "bz2", _) => {
                content = unpack_other(bytes).ok_or_else(|| "is not readable".to_owned())?;
            }
            _ => {
                // gzip and Python ignore zeros after the last member.
                let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
                let padded = (end..=bytes.len().min(end + 8)).find_map(|end| {
                    let mut content = Vec::new();
                    MultiGzDecoder::new(&bytes[..end.min(bytes.len())])
                        .read_to_end(&mut content)
                        .is_ok()
                        .then_some(content)
                });
                content = padded.ok_or_else(|| "is not readable".to_owned())?;
            }
        }
        Ok(content)
    }
}

fn member(header: GzBuilder, content: &[u8], level: u32) -> Vec<u8> {
    let mut encoder: GzEncoder<Vec<u8>> = header.write(Vec::new(), Compression::new(level));
    encoder.write_all(content).expect("a Vec takes it");
    encoder.finish().expect("a Vec takes it")
}

/// Returns the content of the zstd, xz or bzip2 archive at the beginning of `bytes`.
pub(crate) fn unpack_other(bytes: &[u8]) -> Option<Vec<u8>> {
    let is = |magic: &[u8]| bytes.starts_with(magic);
    if is(&[0x28, 0xb5, 0x2f, 0xfd]) {
        HERE.iter().find(|(name, _)| *name == "zstd")?;
        Some(program("zstd", &["-dc"], bytes))
    } else if is(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        python("unxz", 0, bytes)
    } else if is(b"BZh") {
        python("unbz2", 0, bytes)
    } else {
        None
    }
}

/// Returns the output of a program for this input, also if it reports an error about trailing bytes.
fn program(name: &str, options: &[&str], input: &[u8]) -> Vec<u8> {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(input).expect("a temporary file");
    file.rewind().expect("a temporary file");
    // zopfli cannot read a pipe.
    let path = if name == "zopfli" { "/dev/stdin" } else { "-" };
    let output = Command::new(name)
        .args(options)
        .arg(path)
        .stdin(file)
        .stderr(Stdio::null())
        .output();
    output.expect("an installed program").stdout
}

/// A Python process that packs and unpacks until its input ends.
struct Worker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

thread_local! {
    static WORKER: RefCell<Option<Worker>> = RefCell::new(Worker::start());
}

fn python(operation: &str, level: usize, input: &[u8]) -> Option<Vec<u8>> {
    WORKER.with_borrow_mut(|worker| worker.as_mut()?.call(operation, level, input))
}

impl Worker {
    fn start() -> Option<Self> {
        let mut child = Command::new("python3")
            .args(["-I", "-c", include_str!("pack.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let input = child.stdin.take()?;
        let output = BufReader::new(child.stdout.take()?);
        Some(Self {
            child,
            input,
            output,
        })
    }

    fn call(&mut self, operation: &str, level: usize, input: &[u8]) -> Option<Vec<u8>> {
        writeln!(self.input, "{operation} {level} {}", input.len()).ok()?;
        self.input.write_all(input).ok()?;
        self.input.flush().ok()?;
        let mut line = String::new();
        self.output.read_line(&mut line).ok()?;
        let mut content = vec![0; line.trim().parse().ok()?];
        self.output.read_exact(&mut content).ok()?;
        Some(content)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}
