//! The real binary against the real mock hub, over real TLS. One file for each subject.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests lay out hosts, run processes, and fail by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod bounded_reads;
mod certificates;
mod clocks;
mod clones;
mod clones_firmware;
mod command_line;
mod command_pages;
mod confirmation;
mod connection;
mod core_dumps;
mod doctor;
mod documentation;
mod enrol;
mod facts;
mod first_boot;
mod foreign_root;
mod golden_image;
mod hidden_characters;
mod host_names;
mod hostile_values;
mod http;
mod https_proxy;
mod ignored_settings;
mod install;
mod install_again;
mod install_failures;
mod late_token;
mod locks;
mod log;
mod log_rotation;
mod lyftdata;
mod lyftdata_troubleshooting;
mod manual;
mod mimir;
mod mimir_certificates;
mod mimir_clones;
mod mimir_install;
mod mimir_refusals;
mod mimir_service;
mod opened_files;
mod per_agent_token;
mod privilege;
mod privilege_enrolment;
mod privilege_planted;
mod privilege_service;
mod privilege_takeover;
mod privilege_writes;
mod process;
mod races;
mod ravenxcope;
mod ravenxcope_failures;
mod ravenxcope_service;
mod readmission;
mod recovery;
mod rejections;
mod repeated_secrets;
mod responses;
mod retries;
mod rotation;
mod rotation_races;
mod run;
mod scrubbing;
mod secrets;
mod status;
mod tags_and_role;
mod targets;
mod token_sources;
mod unenrol;
mod unwritable;
