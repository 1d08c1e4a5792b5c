//! One measurement of one run.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::sleep;

use super::contender::Start;
use super::relay::Relay;
use super::{Contender, Scene, Wire};
use crate::error::{Context, Result, Stop};
use crate::{process, tools};

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// Peak of the largest process, in KiB.
    pub(crate) memory: u64,
}

/// Runs it by itself.
pub(crate) async fn taken(scene: &Scene, contender: Contender) -> Result<Taken> {
    let start = contender.start(scene, scene.address())?;
    let told = scene.folder.path().join("measured");
    let mut command = scene.command(&scene.programs.measure);
    command.arg(&told);
    run(&mut command, start, contender).await?;
    let line = fs::read_to_string(&told).context(|| "what was measured".to_owned())?;
    let numbers: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [_, wall, cpu, memory] = numbers[..] else {
        return Err(Stop::failed(format!("measured: {line}")));
    };
    Ok(Taken {
        wall: Duration::from_nanos(wall),
        cpu: Duration::from_micros(cpu),
        memory,
    })
}

/// System calls of the program and its children, by their names.
pub(crate) async fn syscalls(scene: &Scene, contender: Contender) -> Result<Vec<(String, u64)>> {
    tools::programs(&[("/usr/bin/strace", "strace")]).await?;
    let start = contender.start(scene, scene.address())?;
    let told = scene.folder.path().join("strace");
    let mut command = scene.command("strace");
    command
        .args(["--follow-forks", "--summary-only", "--output"])
        .arg(&told)
        .arg("--");
    run(&mut command, start, contender).await?;
    let table = fs::read_to_string(&told).context(|| "strace's table".to_owned())?;
    counts(&table).ok_or_else(|| Stop::failed(format!("strace's table:\n{table}")))
}

/// Rows of `strace -c`: share, seconds, microseconds a call, calls, errors (if any), name.
fn counts(table: &str) -> Option<Vec<(String, u64)>> {
    let counts: Vec<(String, u64)> = table
        .lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let name = columns.last()?;
            let is_row = columns.len() >= 5 && columns[0].parse::<f64>().is_ok();
            (is_row && *name != "total").then_some(())?;
            Some(((*name).to_owned(), columns[3].parse().ok()?))
        })
        .collect();
    (!counts.is_empty()).then_some(counts)
}

/// Instructions of the program, without its children's and the kernel's.
pub(crate) async fn instructions(scene: &Scene, contender: Contender) -> Result<u64> {
    tools::programs(&[("/usr/bin/valgrind", "valgrind")]).await?;
    let start = contender.start(scene, scene.address())?;
    let told = scene.folder.path().join("callgrind");
    let mut log = std::ffi::OsString::from("--log-file=");
    log.push(&told);
    let mut command = scene.command("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(log);
    run(&mut command, start, contender).await?;
    let said = fs::read_to_string(&told).context(|| "callgrind's log".to_owned())?;
    said.lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
        .ok_or_else(|| Stop::failed(format!("callgrind's log:\n{said}")))
}

/// What goes over the wire, counted by a relay.
pub(crate) async fn wire(scene: &Scene, contender: Contender) -> Result<Wire> {
    let relay = Relay::to(scene.address()).await?;
    let start = contender.start(scene, &relay.address.to_string())?;
    run(&mut Command::new("env"), start, contender).await?;
    Ok(relay.wire())
}

/// Packets of both directions, and their bytes with all headers, counted by the kernel in a network
/// that has nobody else in it.
pub(crate) async fn packets(apart: &Scene, contender: Contender) -> Result<(u64, u64)> {
    let id = apart
        .network
        .ok_or_else(|| Stop::failed("it is in everybody's network"))?;
    let start = contender.start(apart, apart.address())?;
    let before = quiet(id).await?;
    run(&mut apart.command("env"), start, contender).await?;
    let after = quiet(id).await?;
    Ok((after.0 - before.0, after.1 - before.1))
}

/// The counters of `lo` there, once they stand still.
async fn quiet(id: u32) -> Result<(u64, u64)> {
    let mut last = None;
    loop {
        let path = format!("/proc/{id}/net/dev");
        let text = fs::read_to_string(&path).context(|| path)?;
        let now = loopback(&text).ok_or_else(|| Stop::failed(format!("no lo in\n{text}")))?;
        if last == Some(now) {
            return Ok(now);
        }
        last = Some(now);
        sleep(Duration::from_millis(100)).await;
    }
}

/// Packets and bytes received: on a loopback, all that were sent.
fn loopback(text: &str) -> Option<(u64, u64)> {
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("lo:"))?;
    let mut columns = line.split_whitespace();
    let bytes = columns.next()?.parse().ok()?;
    Some((columns.next()?.parse().ok()?, bytes))
}

/// Runs `start` by the program `by`, which runs it, and insists that it goes well.
async fn run(by: &mut Command, start: Start, contender: Contender) -> Result<()> {
    by.arg(Path::new(&start.program))
        .args(&start.arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(start.environment);
    let ended = process::capture(by).await?;
    if ended.status.success() {
        return Ok(());
    }
    Err(Stop::failed(format!(
        "{}: {}: {}",
        contender.name(),
        ended.status,
        ended.text().trim()
    )))
}

impl Scene {
    /// Address and port of the hub.
    pub(crate) fn address(&self) -> &str {
        self.hub.url.trim_start_matches("https://")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_with_and_without_errors() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000012           2         6           read
 40.00    0.000008           1         8         3 open
------ ----------- ----------- --------- --------- ----------------
100.00    0.000020           1        14         3 total
";
        let expected = [("read".to_owned(), 6), ("open".to_owned(), 8)];
        assert_eq!(counts(table).unwrap(), expected);
        assert_eq!(counts("strace: nothing"), None);
    }

    #[test]
    fn loopback_is_found_among_others() {
        let text = "Inter-| Receive\n eth0: 9 9 0\n    lo: 1234 7 0 0 0 0 0 0 1234 7 0\n";
        assert_eq!(loopback(text), Some((7, 1234)));
        assert_eq!(loopback("eth0: 1 1"), None);
    }
}
