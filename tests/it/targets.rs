//! The proof before a request covers the exact files: each obstacle is exit code 73 with a hint, and no use
//! is spent.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::process::Command;

use crate::common::lyftdata::{JOBS, server, worker, workers};
use crate::common::ravenxcope::{FILE, agent, env_text, mint, sensor};
use crate::common::{Prepared, SERVICE_USER, TestHost, TestHub, needs_root};
use crate::mimir;

/// Runs `agent` after `script` in a mount namespace of its own. The script has `$1`, and `$2` if given.
#[track_caller]
fn after(script: &str, paths: &[&str], host: &TestHost, agent: Prepared, message: &[&str]) {
    needs_root();
    let mut unshare = Command::new("unshare");
    let script =
        format!("set -e; {script}; while [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\"");
    unshare.args(["--mount", "--propagation", "private", "/bin/sh", "-c"]);
    unshare.args([&script, "sh"]);
    unshare
        .args(paths.iter().map(|path| host.path(path)))
        .arg("--");
    let path = std::env::var("PATH").unwrap();
    let run = agent.under(&mut unshare).env("PATH", &path).run();
    run.expect(73).expect_stderr(message);
}

#[track_caller]
fn monsys_after(script: &str, paths: &[&str], host: &TestHost, message: &[&str]) {
    let hub = TestHub::new();
    let token = hub.token();
    let agent = host.enrol_with(&hub, &token, &["--wait", "5s"]);
    after(script, paths, host, agent, message);
    assert_eq!((hub.agents().len(), hub.spent()), (0, 0), "a use was spent");
}

const BIND: &str = "mount --bind \"$1\" \"$1\"";
const CONFIG: &str = "etc/monsys/agent.toml";
const STATE: &str = "var/lib/monsys";

/// Mounts an empty file system of this kind at `$1`.
fn tmpfs(options: &str) -> String {
    format!("mount -t tmpfs -o mode=755,{options} tmpfs \"$1\"")
}

#[test]
#[ignore = "needs root: mounts"]
fn a_target_that_is_a_mount_point_is_reported() {
    let message = ["mount point", "mount the folder of the file"];
    let host = TestHost::new();
    host.write_file(CONFIG, "# mine\n");
    monsys_after(
        BIND,
        &[CONFIG],
        &host,
        &[&message[..], &[CONFIG, "--config PATH"]].concat(),
    );
    assert_eq!(host.agent_toml(), "# mine\n");
    let host = TestHost::new();
    host.write_file("var/lib/monsys/agent-id", "");
    monsys_after(BIND, &["var/lib/monsys/agent-id"], &host, &message);
    // The file is one of another file system, as in a container.
    let host = TestHost::new();
    host.write_file(CONFIG, "");
    fs::create_dir_all(host.path("srv")).unwrap();
    let script = format!(
        "{}; touch \"$1/toml\"; mount --bind \"$1/toml\" \"$2\"",
        tmpfs("size=1m")
    );
    monsys_after(&script, &["srv", CONFIG], &host, &message);
}

#[test]
#[ignore = "needs root: sets file attributes"]
fn a_target_with_a_forbidding_attribute_is_reported() {
    for (attribute, cause) in [("i", "immutable"), ("a", "append only")] {
        let host = TestHost::new();
        fs::create_dir_all(host.path("etc/monsys")).unwrap();
        let script = format!(
            "{}; touch \"$1/agent.toml\"; chattr +{attribute} \"$1/agent.toml\"",
            tmpfs("size=1m")
        );
        let hint = format!("chattr -{attribute} ");
        monsys_after(&script, &["etc/monsys"], &host, &[cause, &hint, CONFIG]);
        // The attribute of the folder.
        let script = format!("{}; chattr +{attribute} \"$1\"", tmpfs("size=1m"));
        monsys_after(&script, &["etc/monsys"], &host, &[cause, &hint]);
    }
}

#[test]
fn a_target_that_is_a_folder_is_reported() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    fs::create_dir_all(host.path("var/lib/monsys/agent-id")).unwrap();
    let run = host.enrol(&hub, &hub.token()).run().expect(73);
    run.expect_stderr(&["agent-id", "it is a directory", "mv "]);
    assert_eq!((hub.agents().len(), hub.spent()), (0, 0));
}

#[test]
#[ignore = "needs root: mounts"]
fn a_file_system_without_room_is_reported() {
    let host = TestHost::new();
    fs::create_dir_all(host.path(STATE)).unwrap();
    // The root folder and the lock have an inode each. An enrolment needs four more at once.
    for inodes in 1..=5 {
        let script = tmpfs(&format!("nr_inodes={inodes}"));
        monsys_after(&script, &[STATE], &host, &["No space left", "inodes"]);
    }
    for size in 1..=3 {
        let script = tmpfs(&format!("size={}", size * 4096));
        monsys_after(&script, &[STATE], &host, &["No space left"]);
    }
}

/// Enrols with all calls of this kind failing from the `nth` on, in strace(1).
#[track_caller]
fn monsys_with(call: &str, error: &str, nth: u32, message: &[&str]) {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let mut strace = Command::new("strace");
    let inject = format!("inject={call}:error={error}:when={nth}+");
    strace.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &format!("trace={call}"),
        "-e",
        &inject,
    ]);
    let run = host.enrol(&hub, &hub.token()).under(&mut strace).run();
    run.expect(73).expect_stderr(message);
    assert_eq!((hub.agents().len(), hub.spent()), (0, 0), "a use was spent");
}

#[test]
fn a_file_system_that_accepts_no_mode_is_reported() {
    monsys_with("fchmod", "EPERM", 1, &["0755", "Operation not permitted"]);
    // Each mode that the run needs is tried.
    let (hub, host) = (TestHub::new(), TestHost::new());
    for folder in ["etc/monsys", STATE] {
        fs::create_dir_all(host.path(folder)).unwrap();
    }
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fchmod",
        "-e",
        "inject=fchmod:error=EPERM",
    ]);
    let run = host.enrol(&hub, &hub.token()).under(&mut strace).run();
    run.expect(73)
        .expect_stderr(&["mode 0644", "chmod", "--state-dir DIR", "ext4"]);
    assert_eq!((hub.agents().len(), hub.spent()), (0, 0));
}

/// Runs `enrol` with faults in system calls, on a host that has its folders.
fn with_faults(host: &TestHost, hub: &TestHub, faults: &[&str]) -> crate::common::Run {
    for folder in ["etc/monsys", STATE] {
        fs::create_dir_all(host.path(folder)).unwrap();
    }
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null"]).args(faults);
    host.enrol(hub, &hub.token()).under(&mut strace).run()
}

/// As `PostgreSQL` does, the agent passes over such a file system, and says so.
#[test]
fn a_file_system_without_fsync_of_folders_is_passed_over_with_a_warning() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let folder = host.path("etc/monsys");
    let folder = folder.to_str().unwrap();
    let faults = [
        "-e",
        "trace=fsync",
        "-e",
        "inject=fsync:error=EINVAL",
        "-P",
        folder,
    ];
    let run = with_faults(&host, &hub, &faults).expect(0);
    let warning = "no fsync for folders";
    assert_eq!(run.stderr.matches(warning).count(), 1, "{}", run.stderr);
    hub.expect_one_slot();
}

/// As `PostgreSQL` does, a file with the process id is the lock then.
#[test]
fn a_file_system_without_locks_has_a_file_with_the_process_id() {
    let hub = TestHub::new();
    for error in ["EOPNOTSUPP", "ENOLCK", "ENOSYS"] {
        let host = TestHost::new();
        host.write_file("var/lib/monsys/lock.pid", "1 1\n");
        let inject = format!("inject=flock:error={error}");
        let run = with_faults(&host, &hub, &["-e", "trace=flock", "-e", &inject]).expect(0);
        assert_eq!(
            run.stderr.matches("no file locks").count(),
            1,
            "{}",
            run.stderr
        );
        assert!(!host.path("var/lib/monsys/lock.pid").exists());

        host.write_file("var/lib/monsys/lock.pid", &note_of_this_process());
        let waiting = host.agent(&["enrol", "--tag", "more", "--wait", "1s"]);
        let run = waiting.under(&mut without_flock(error)).run().expect(69);
        let id = std::process::id().to_string();
        run.expect_stderr(&["another monsys-agent", &id]);
    }
}

/// Returns the note in the lock of a run. This process stands for that run.
fn note_of_this_process() -> String {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let since = after_name.split_ascii_whitespace().nth(19).unwrap();
    format!("{} {since}\n", std::process::id())
}

fn without_flock(error: &str) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e"]);
    strace.arg(format!("inject=flock:error={error}"));
    strace
}

/// The user of `LyftData`'s worker owns the jobs directory.
#[test]
#[ignore = "needs root: files of another user"]
fn a_lock_that_another_user_has_planted_stops_no_run_of_root() {
    needs_root();
    let hub = server();
    for is_link in [false, true] {
        let host = TestHost::new();
        let lock = format!("{JOBS}/.monsys-enrol.lock.pid");
        host.write_file(&lock, &note_of_this_process());
        for path in [JOBS, &lock] {
            chown(host.path(path), Some(SERVICE_USER), Some(SERVICE_USER)).unwrap();
        }
        if is_link {
            fs::rename(host.path(&lock), host.path("note")).unwrap();
            symlink(host.path("note"), host.path(&lock)).unwrap();
        }
        let arguments = ["enrol", "--dialect", "lyftdata", "--wait", "20s"];
        let run = worker(&host, &hub, &format!("w-{is_link}"), &arguments);
        run.under(&mut without_flock("ENOLCK")).run().expect(0);
        let names = host.names(JOBS);
        assert!(!names.iter().any(|name| name.contains("pid")), "{names:?}");
    }
    assert_eq!(workers(&hub).len(), 2);
}

#[test]
#[ignore = "needs root: mounts"]
fn ravenxcopes_env_file_is_proved() {
    let message = ["mount point", "CONFIG_FILE"];
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = mint(&hub, "sensor-1");
    host.write_file(FILE, &env_text(&hub, "sensor-1", &token));
    after(
        BIND,
        &[FILE],
        &host,
        agent(&host, &hub, &["enrol"]),
        &message,
    );
    let script = "mount -t tmpfs -o mode=755 tmpfs \"$2\"; mv \"$3/copy\" \"$1\"; chattr +i \"$1\"";
    fs::create_dir_all(host.path("srv")).unwrap();
    host.write_file("srv/copy", &env_text(&hub, "sensor-1", &token));
    let command = agent(&host, &hub, &["enrol"]);
    after(
        script,
        &[FILE, "etc/ravenxcope", "srv"],
        &host,
        command,
        &["immutable", "chattr -i"],
    );
    assert_eq!(
        sensor(&hub, "sensor-1")["enrolledAt"],
        serde_json::Value::Null
    );
}

#[test]
fn ravenxcopes_env_file_may_not_be_a_link_to_nothing() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let token = mint(&hub, "sensor-1");
    fs::create_dir_all(host.path("etc/ravenxcope")).unwrap();
    std::os::unix::fs::symlink("none", host.path(FILE)).unwrap();
    agent(&host, &hub, &["enrol"])
        .env("SENSOR_ID", "sensor-1")
        .env("INSTALL_TOKEN", &token)
        .env("BACKEND_URL", &hub.url())
        .run()
        .expect(73)
        .expect_stderr(&["symbolic link"]);
    assert_eq!(
        sensor(&hub, "sensor-1")["enrolledAt"],
        serde_json::Value::Null
    );
}

#[test]
#[ignore = "needs root: mounts"]
fn mimirs_files_are_proved() {
    let (hub, host) = (TestHub::new(), TestHost::new());
    let (secret, _) = mimir::mint(&hub, Some(1));
    host.write_file("etc/mimir/ca.pem", "");
    let enrol = || mimir::enrol(&host, &hub, &secret);
    after(
        BIND,
        &["etc/mimir/ca.pem"],
        &host,
        enrol(),
        &["mount point", "ca.pem"],
    );
    let script = format!(
        "{}; touch \"$1/agent.json.x\"; touch \"$1/ca.pem\"; chattr +i \"$1/ca.pem\"",
        tmpfs("size=1m")
    );
    after(
        &script,
        &["etc/mimir"],
        &host,
        enrol(),
        &["immutable", "ca.pem"],
    );
    assert_eq!(mimir::uses(&hub), "0 / 1");
}

#[test]
#[ignore = "needs root: mounts"]
fn lyftdatas_files_are_proved() {
    let (hub, host) = (server(), TestHost::new());
    let file = format!("{JOBS}/LYFTDATA_WORKER_ID");
    host.write_file(&file, "");
    let enrol = || worker(&host, &hub, "w", &["run", "worker"]);
    let message = ["mount point", "LYFTDATA_WORKER_ID", "--worker-jobs-dir DIR"];
    after(BIND, &[&file], &host, enrol(), &message);
    let script = format!(
        "{}; touch \"$1/LYFTDATA_WORKER_ID\"; chattr +i \"$1/LYFTDATA_WORKER_ID\"",
        tmpfs("size=1m")
    );
    after(
        &script,
        &[JOBS],
        &host,
        enrol(),
        &["immutable", "chattr -i"],
    );
    assert_eq!(workers(&hub), []);
}

#[test]
#[ignore = "needs root: mounts"]
fn doctor_reports_the_obstacle() {
    needs_root();
    let (hub, host) = (TestHub::new(), TestHost::new());
    host.write_file(CONFIG, "");
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "/bin/sh", "-c"]);
    unshare.args([&format!("{BIND}; shift; exec \"$@\""), "sh"]);
    unshare.arg(host.path(CONFIG));
    let ca_file = host.install_ca(&hub).unwrap();
    let arguments = [
        "doctor",
        "--hub-url",
        &hub.url(),
        "--ca-file",
        ca_file.to_str().unwrap(),
    ];
    let doctor = host.agent(&arguments).env("MONSYS_TOKEN", &hub.token());
    let path = std::env::var("PATH").unwrap();
    let run = doctor
        .under(&mut unshare)
        .env("PATH", &path)
        .run()
        .expect(73);
    assert!(run.stdout.contains("mount point"), "{}", run.stdout);
}
