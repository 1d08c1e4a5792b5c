//! The program `monsys-agent`: it enrols a host into a hub, exactly once, and sends the host's heartbeats.
//!
//! A run exchanges one shared secret for a credential of this host. It gathers the host's facts, sends
//! them with the secret, and writes the credential so that no crash can lose it. Four enrolment systems
//! are supported, each by a dialect (`--dialect`).
//!
//! # Layers
//!
//! Imports only go down this list:
//!
//! 1. `main.rs`, [`output`] and [`log`]: one run of the program, the printed result, the log.
//! 2. [`command`]: one file per subcommand, from its arguments to a [`command::Report`].
//! 3. [`cli`]: the command line and its help. [`install`] and [`doctor`]: the use cases above an enrolment.
//! 4. [`dialects`]: the only list of dialects, and the selection of one.
//! 5. The crates `dialect_monsys`, `dialect_ravenxcope`, `dialect_mimir` and `dialect_lyftdata`: the
//!    protocol and the files of one enrolment system each.
//! 6. The crate `agent_core`: environment, settings, facts, HTTP client, file store, workflow and service.
//!
//! The library never reads the outside directly: [`Environment`](agent_core::environment::Environment)
//! has the variables, the clock, standard input and the root folder.
//!
//! # Example
//!
//! The command `status`, for a host whose files are below another folder:
//!
//! ```
//! use agent_core::environment::Environment;
//! use monsys_agent::cli::Cli;
//! use monsys_agent::{command, dialects};
//!
//! let arguments = ["monsys-agent", "status", "--root", "/nonexistent"];
//! let cli = Cli::parse_from(arguments.map(Into::into)).ok().expect("the arguments are valid");
//! let environment = Environment::real(dialects::secret_variables())
//!     .with_root(&cli.global.root)
//!     .with_variables(Vec::<(String, String)>::new());
//! let report = command::run_blocking(&cli, &environment)?;
//! assert_eq!(report.exit_code, 78); // not enrolled
//! # Ok::<(), agent_core::error::Error>(())
//! ```

pub mod cli;
pub mod command;
pub mod core_dump;
pub mod dialects;
pub mod doctor;
#[doc(hidden)]
pub mod fuzzing;
pub mod install;
pub mod limits;
pub mod log;
pub mod output;
pub mod reference;
