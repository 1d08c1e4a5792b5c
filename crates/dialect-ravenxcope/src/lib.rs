//! `RavenXcope` as a dialect of the agent: a one-time install token, exchanged for a sensor token.
//!
//! # Protocol
//!
//! An enrolment sends the host's facts and the install token in the body of
//! `POST /api/sensors/{SENSOR_ID}/agent/enroll`. The backend responds with a sensor token and an interval.
//! The sensor token replaces the install token in the env file. Heartbeats carry the sensor token as
//! the bearer. A response is a success when its status is 200 and its `success` is true.
//!
//! # Order of writes
//!
//! 1. `.monsys-enrol.json`, beside the env file, records that a request is about to be sent.
//! 2. The request is sent, and sent again until the backend accepts or rejects it.
//! 3. One write puts the sensor token into the env file and removes the install token.
//! 4. `.monsys-enrol.json` records the result.
//!
//! The protocol cannot give exactly-once. When the response is lost, the install token is used up and the
//! sensor token is lost with the response. The record of step 1 is on the disk then. So a later rejection
//! names the lost request, and its hint says that an operator has to make a new install token. A crash
//! after step 3 is repaired by the next run.
//!
//! # Source
//!
//! The documentation of the `RavenXcope` sensor agent (seed 001); `docs/dialects/ravenxcope.md` has each request.
//!
//! # Example
//!
//! ```
//! use agent_core::environment::Environment;
//! use agent_core::flags::Flags;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let root = tempfile::tempdir()?;
//! let environment = Environment::real([]).with_root(root.path()).with_variables([
//!     ("BACKEND_URL", "https://backend.example"),
//!     ("SENSOR_ID", "sensor-1"),
//! ]);
//! let flags = Flags::default();
//! let host = dialect_ravenxcope::DESCRIPTOR.open(&flags, &environment)?;
//! assert_eq!(host.settings().hub_url.value.to_string(), "https://backend.example");
//! assert!(!host.is_enrolled()?);
//! # Ok(())
//! # }
//! ```

mod admission;
mod checks;
mod dialect;
mod exchange;
mod first_enrolment;
#[doc(hidden)]
pub mod fuzzing;
mod pending_request;
mod preview;
mod ravenxcope;
mod sensor;
mod settings;
mod status;
mod step;
mod wire;

pub use dialect::DESCRIPTOR;
