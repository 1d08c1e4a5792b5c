//! Runs one program and says what it took: a small process of its own, since a child's peak of memory
//! is told no lower than that of who started it, and since the times of all children are summed up.
//!
//! `measure FILE PROGRAM ARGUMENT…` writes into FILE: exit code, nanoseconds of wall, microseconds of
//! processor, KiB of memory.
#![allow(clippy::disallowed_methods, reason = "it has no World and no store")]

use std::error::Error;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(file), Some(program)) = (arguments.next(), arguments.next()) else {
        return Err("usage: measure FILE PROGRAM ARGUMENT…".into());
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let start = Instant::now();
    let status = command.status()?;
    let wall = start.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let code = status.code().unwrap_or(255);
    let line = format!("{code} {} {cpu} {}\n", wall.as_nanos(), usage.max_rss());
    std::fs::write(file, line)?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(255)))
}
