//! `RavenXcope`: a one-time install token in the body, exchanged for a sensor token, put into an env
//! file.
//!
//! The protocol cannot give exactly-once: when the answer is lost, the install token is used up and
//! the sensor token went with it. So a mark is on the disk before the request leaves, and a refusal
//! that follows says what happened and what the operator does.

mod admission;
mod dialect;
mod exchange;
mod first_enrolment;
#[doc(hidden)]
pub mod fuzzing;
mod pending_request;
mod ravenxcope;
mod report;
mod sensor;
mod settings;
mod step;
mod wire;

pub use dialect::DESCRIPTOR;
