//! The hub, tested from the outside: over real TLS, or as the real program.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what it expects; its helpers do too"
)]

mod capacity;
mod clients;
mod database;
mod dist;
mod enrolment;
mod faults;
mod heartbeat;
mod integrity;
mod keys;
mod limits;
mod mimir;
mod openapi;
mod operator;
mod program;
mod ravenxcope;
mod raw;
mod readmission;
mod register;
mod rejection;
mod restart;
mod source;
mod tls;
mod unsigned;
