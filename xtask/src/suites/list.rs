//! The one list of suites.

use super::prepare::{self, Prepared};
use super::{Count, Pending, deps, fuzz, openapi, os_release, shell};

/// A named check of one kind.
pub(super) struct Suite {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// The programs that it runs, and Debian's package of each.
    pub(super) programs: &'static [(&'static str, &'static str)],
    /// A suite that cannot run at all without root and namespaces.
    pub(super) needs_namespaces: bool,
    pub(super) run: Run,
}

pub(super) enum Run {
    /// Commands of cargo; each counts as one test.
    Cargo(&'static [&'static str]),
    /// A program of the workspace, run with each of these arguments; each counts as one test.
    Programs(&'static str, &'static [&'static str]),
    /// Tests that nextest selects by these words, and the preparation of their environment.
    Tests(&'static str, fn(bool) -> Pending<Prepared>),
    /// A check of its own.
    Own(fn() -> Pending<Count>),
}

impl Suite {
    const fn new(name: &'static str, about: &'static str, run: Run) -> Self {
        Self {
            name,
            about,
            programs: &[],
            needs_namespaces: false,
            run,
        }
    }

    const fn with(mut self, programs: &'static [(&'static str, &'static str)]) -> Self {
        self.programs = programs;
        self
    }

    const fn in_namespaces(mut self) -> Self {
        self.needs_namespaces = true;
        self
    }
}

const APT_CURL: (&str, &str) = ("/usr/bin/curl", "curl");
const MINISIGN: (&str, &str) = ("/usr/bin/minisign", "minisign");
const RPM: (&str, &str) = ("/usr/bin/rpm", "rpm");
const STRACE: (&str, &str) = ("/usr/bin/strace", "strace");
const IP: (&str, &str) = ("/sbin/ip", "iproute2");
const OPENSSL: (&str, &str) = ("/usr/bin/openssl", "openssl");
const SYSTEMD_ANALYZE: (&str, &str) = ("/usr/bin/systemd-analyze", "systemd");

/// The agent's code is optimised, in the profile of all other builds: a profile of its own would build
/// every dependency again. This replaces the agent's program under target/debug until the next build, so
/// the suite comes before all that run the program.
/// So does the build with the example dialect, which is tested here for that reason.
const SCRUB: &str = "--features example-dialect --test example-dialect --test scrub --config profile.dev.package.monsys-agent.opt-level=2 --config profile.dev.package.agent-core.opt-level=2";

/// In the order in which they start. The quick ones come first, and those that build for long start
/// early, since each suite runs beside another.
pub(super) const SUITES: &[Suite] = &[
    Suite::new(
        "fmt",
        "the layout of the code",
        // The fuzz targets are a workspace of their own.
        Run::Cargo(&[
            "fmt --all --check",
            "fmt --all --check --manifest-path fuzz/Cargo.toml",
        ]),
    ),
    Suite::new(
        "shell",
        "shellcheck and shfmt over every script",
        Run::Own(|| Box::pin(shell::run())),
    ),
    Suite::new(
        "scrub",
        "the scrubber on random documents, and the example of a dialect",
        Run::Tests(SCRUB, |is_long| Box::pin(prepare::scrub(is_long))),
    )
    .with(&[
        ("/usr/bin/gzip", "gzip"),
        ("/usr/bin/pigz", "pigz"),
        ("/usr/bin/python3", "python3"),
        ("/usr/bin/zopfli", "zopfli"),
        ("/usr/bin/zstd", "zstd"),
    ]),
    Suite::new(
        "fuzz",
        "each fuzz target, for a limited time",
        Run::Own(|| Box::pin(fuzz::run())),
    )
    .with(&[("/usr/bin/c++", "g++")]),
    Suite::new(
        "rust",
        "unit and integration tests, and examples in the documentation",
        // The suite `scrub` runs the scrubber's tests, on more documents.
        Run::Tests("-E not(binary(scrub))", |_| Box::pin(prepare::rust())),
    )
    .with(&[
        ("/usr/sbin/logrotate", "logrotate"),
        ("/usr/bin/bzip2", "bzip2"),
        ("/usr/bin/xz", "xz-utils"),
        ("/usr/bin/zstd", "zstd"),
        IP,
        OPENSSL,
        STRACE,
        SYSTEMD_ANALYZE,
        ("/usr/bin/setpriv", "util-linux"),
    ]),
    Suite::new(
        "clippy",
        "no lint in any target",
        Run::Cargo(&[
            "clippy --locked --workspace --features example-dialect --all-targets -- -D warnings",
            // `--all-targets` leaves out those with `test = false`.
            "clippy --locked --workspace --features example-dialect --test * -- -D warnings",
        ]),
    ),
    Suite::new(
        "doc",
        "the documentation of the crates, without a dead link",
        Run::Cargo(&[
            "doc --locked --workspace --no-deps --document-private-items --config build.rustdocflags=[\"-Dwarnings\"]",
        ]),
    ),
    Suite::new(
        "deps",
        "one TLS stack, and only what deny.toml allows",
        Run::Own(|| Box::pin(deps::run())),
    ),
    Suite::new(
        "dist",
        "a release: static, signed, independent of its host",
        Run::Tests("--test release -E not(test(packages))", |_| {
            Box::pin(prepare::release())
        }),
    )
    .with(&[
        ("/usr/bin/musl-gcc", "musl-tools"),
        ("/usr/bin/aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        ("/usr/aarch64-linux-gnu/lib/libc.a", "libc6-dev-arm64-cross"),
        ("/usr/bin/file", "file"),
        MINISIGN,
        ("/usr/sbin/dnsmasq", "dnsmasq-base"),
        ("/usr/bin/qemu-aarch64-static", "qemu-user-static"),
    ]),
    Suite::new(
        "crash",
        "the agent, killed at every system call",
        Run::Tests("--test crash", prepare::crash),
    )
    .with(&[STRACE]),
    Suite::new(
        "hosts",
        "booted hosts, with every way to install and enrol",
        Run::Tests("--test hosts", prepare::hosts),
    )
    .with(&[
        IP,
        ("/usr/bin/mmdebstrap", "mmdebstrap"),
        RPM,
        ("/usr/bin/ssh", "openssh-client"),
        ("/usr/bin/systemd-nspawn", "systemd-container"),
    ])
    .in_namespaces(),
    Suite::new(
        "fleet",
        "a fleet that returns to a hub which has lost its data",
        Run::Tests("--test fleet", prepare::fleet),
    )
    .with(&[STRACE]),
    Suite::new(
        "cloud-init",
        "the user data, run by cloud-init itself",
        Run::Tests("--test cloud_init -E not(test(scrub_boots::))", |_| {
            Box::pin(prepare::cloud_init())
        }),
    )
    .with(&[APT_CURL, ("/usr/bin/wget", "wget")])
    .in_namespaces(),
    Suite::new(
        "installer",
        "install.sh and install on complete machines",
        Run::Tests("--test installer", prepare::nothing),
    )
    .with(&[
        ("/bin/bash", "bash"),
        ("/bin/busybox", "busybox"),
        ("/bin/dash", "dash"),
        ("/bin/mksh", "mksh"),
        ("/bin/zsh", "zsh"),
        APT_CURL,
        MINISIGN,
        OPENSSL,
        STRACE,
        ("/usr/bin/sudo", "sudo"),
        SYSTEMD_ANALYZE,
        ("/usr/bin/wget", "wget"),
    ])
    .in_namespaces(),
    Suite::new(
        "networks",
        "proxies, cut links and bad names between agent and hub",
        Run::Tests("--test networks", |_| Box::pin(prepare::shipped())),
    )
    .with(&[
        IP,
        ("/usr/bin/htpasswd", "apache2-utils"),
        ("/usr/sbin/dnsmasq", "dnsmasq-base"),
        ("/usr/sbin/haproxy", "haproxy"),
        ("/usr/sbin/nft", "nftables"),
        ("/usr/sbin/nginx", "nginx-light"),
        ("/usr/sbin/squid", "squid"),
    ])
    .in_namespaces(),
    Suite::new(
        "openapi",
        "the mock hub keeps docs/openapi.yaml",
        Run::Own(|| Box::pin(openapi::run())),
    ),
    Suite::new(
        "terraform",
        "the Terraform module, without network",
        Run::Tests("--test terraform", |_| Box::pin(prepare::terraform())),
    ),
    Suite::new(
        "packages",
        "the content of the deb and the rpm",
        Run::Tests("--test release -E test(packages)", |_| {
            Box::pin(prepare::packages())
        }),
    )
    .with(&[
        ("/usr/bin/lintian", "lintian"),
        RPM,
        ("/usr/bin/rpm2archive", "rpm2cpio"),
        ("/usr/bin/rpmlint", "rpmlint"),
        ("/usr/bin/xz", "xz-utils"),
    ]),
    Suite::new(
        "ansible",
        "the collection: lint, syntax, variables",
        Run::Tests("--test ansible", |_| Box::pin(prepare::ansible())),
    ),
    Suite::new(
        "load",
        "40 hosts at once, in each dialect",
        Run::Programs(
            "load",
            // The seed loses three of their replies.
            &[
                "--debug --hosts 40 --seed 7 --lost-at-least 1 --dialect monsys",
                "--debug --hosts 40 --seed 7 --lost-at-least 1 --dialect ravenxcope",
                "--debug --hosts 40 --seed 7 --lost-at-least 1 --dialect mimir",
                "--debug --hosts 40 --seed 7 --lost-at-least 1 --dialect lyftdata",
            ],
        ),
    ),
    Suite::new(
        "os-release",
        "the reader of os-release beside Python's two",
        Run::Own(|| Box::pin(os_release::run())),
    ),
    Suite::new(
        "budgets",
        "size, crates, system calls and instructions of the agent",
        Run::Tests("--test budgets", |_| Box::pin(prepare::budgets())),
    )
    .with(&[IP, STRACE, ("/usr/bin/valgrind", "valgrind")])
    .in_namespaces(),
    Suite::new("demo", "cargo xtask demo", Run::Programs("demo", &[""])),
];
