//! A fleet: hosts with a root each, and a supervisor for each that stands for the service manager.

use std::collections::BTreeSet;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::lost_data::Hosts;
use crate::common::{HubProcess, Mint, Prepared, Run, SERVICE_USER, TestHost};

/// The exit code by which the service requests the privileged step.
const STEP_NEEDED: i32 = 85;
/// Hosts that are enrolled at the same time.
const WORKERS: usize = 8;
/// The longest wait for a fleet, on a busy machine.
const BOUND: Duration = Duration::from_mins(15);
/// The pause between two looks at the hub.
const POLL: Duration = Duration::from_millis(200);

/// Hosts whose services run.
pub(crate) struct Fleet {
    members: Vec<Arc<Member>>,
    supervisors: Vec<JoinHandle<()>>,
}

/// A host, and what its supervisor knows of it.
struct Member {
    host: TestHost,
    agent_id: String,
    /// The value of `readmission_interval`.
    interval: String,
    service: Mutex<Service>,
    /// The steps that the service has requested, and that have ended.
    steps: AtomicUsize,
    log: Mutex<String>,
    fault: Mutex<Option<String>>,
}

#[derive(Default)]
struct Service {
    is_stopped: bool,
    process: Option<Pid>,
}

impl Fleet {
    /// Enrols `size` hosts at the hub by one token, and starts their services.
    pub(crate) fn enrol(hub: &HubProcess, size: usize, interval: Duration) -> Self {
        let (token, _) = hub.mint(&Mint::new().with("max_uses", size.into()));
        let next = AtomicUsize::new(0);
        let members = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while let number = next.fetch_add(1, Ordering::Relaxed)
                        && number < size
                    {
                        let member = Member::enrol(hub, number, &token, interval);
                        members.lock().unwrap().push(Arc::new(member));
                    }
                });
            }
        });
        let members = members.into_inner().unwrap();
        let supervisors = members.iter().map(|member| {
            let member = Arc::clone(member);
            std::thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn(move || member.supervise())
                .unwrap()
        });
        Self {
            supervisors: supervisors.collect(),
            members,
        }
    }

    /// Returns the pauses, in seconds, that the services have planned before their first return.
    pub(crate) fn first_pauses(&self) -> Vec<u64> {
        const BEFORE: &str = "trying to return in ";
        let members = self.members.iter();
        members
            .map(|member| {
                let log = member.log.lock().unwrap();
                let planned = log.split(BEFORE).nth(1).unwrap();
                planned.split(' ').next().unwrap().parse().unwrap()
            })
            .collect()
    }

    /// Checks that each host is the same agent as at its enrolment, and that the hub knows it. Then stops all services.
    pub(crate) fn stop(mut self) {
        for member in &self.members {
            assert_eq!(member.host.key("agent_id").unwrap(), member.agent_id);
            member.command(&["status", "--check-hub"]).run().expect(0);
        }
        self.end_services();
        for member in &self.members {
            assert_eq!(*member.fault.lock().unwrap(), None);
        }
    }

    fn end_services(&mut self) {
        for member in &self.members {
            let mut service = member.service.lock().unwrap();
            service.is_stopped = true;
            if let Some(process) = service.process {
                let _ = kill(process, Signal::SIGTERM);
            }
        }
        for supervisor in self.supervisors.drain(..) {
            supervisor.join().unwrap();
        }
    }
}

impl Hosts for Fleet {
    fn ids(&self) -> BTreeSet<String> {
        let ids = self.members.iter().map(|member| member.agent_id.clone());
        ids.collect()
    }

    fn tries(&self, ids: &BTreeSet<String>) -> Vec<usize> {
        let members = self.members.iter();
        let members = members.filter(|member| ids.contains(&member.agent_id));
        members
            .map(|member| member.steps.load(Ordering::SeqCst))
            .collect()
    }

    fn enrol_half_by_force(&self, token: &str) -> BTreeSet<String> {
        let half = self.members.iter().step_by(2);
        half.map(|member| {
            let command = member.host.agent(&["enrol", "--force"]);
            command.env("MONSYS_TOKEN", token).run().expect(0);
            member.agent_id.clone()
        })
        .collect()
    }

    /// Panics when a service has ended as it should not.
    #[track_caller]
    fn until(&self, what: &str, condition: &mut dyn FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            for member in &self.members {
                if let Some(fault) = &*member.fault.lock().unwrap() {
                    panic!("waiting for {what}: {}: {fault}", member.agent_id);
                }
            }
            assert!(start.elapsed() < BOUND, "timed out waiting for {what}");
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Fleet {
    /// Leaves no process behind when a test fails.
    fn drop(&mut self) {
        self.end_services();
    }
}

impl Member {
    fn enrol(hub: &HubProcess, number: usize, token: &str, interval: Duration) -> Self {
        let host = TestHost::with_service_user();
        let machine_id = 0x5eed_c0de_0000_0000_0000_0000_0000_0000_u128 + number as u128;
        host.write_file("etc/machine-id", &format!("{machine_id:032x}\n"));
        host.write_file("host-hostname", &format!("host-{number}\n"));
        let ca = std::fs::read_to_string(hub.ca_file()).unwrap();
        let ca = host.write_file("etc/ssl/hub-ca.pem", &ca);
        let url = hub.url();
        let arguments = ["enrol", "--hub-url", &url, "--ca-file"];
        let command = host.agent(&[&arguments[..], &[ca.to_str().unwrap()]].concat());
        command.env("MONSYS_TOKEN", token).run().expect(0);
        Self {
            agent_id: host.key("agent_id").unwrap(),
            host,
            interval: format!("{}ms", interval.as_millis()),
            service: Mutex::default(),
            steps: AtomicUsize::new(0),
            log: Mutex::default(),
            fault: Mutex::default(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Prepared {
        let command = self.host.agent(arguments);
        command.env("MONSYS_READMISSION_INTERVAL", &self.interval)
    }

    /// Runs the privileged step and then the service, as the unit does, until the fleet is stopped.
    fn supervise(&self) {
        let mut is_requested = false;
        loop {
            let step = self.command(&["prepare"]).run();
            self.log.lock().unwrap().push_str(&step.stderr);
            if is_requested {
                self.steps.fetch_add(1, Ordering::SeqCst);
            }
            let Some(child) = self.start() else { return };
            let run = Run::of(child);
            self.log.lock().unwrap().push_str(&run.stderr);
            let mut service = self.service.lock().unwrap();
            service.process = None;
            is_requested = run.code == STEP_NEEDED;
            if service.is_stopped && (run.code == 0 || is_requested) {
                return;
            }
            if !is_requested {
                let log = self.log.lock().unwrap();
                *self.fault.lock().unwrap() = Some(format!("run ended with {}\n{log}", run.code));
                return;
            }
        }
    }

    /// Starts the service, unless the fleet is stopped.
    fn start(&self) -> Option<Child> {
        let mut service = self.service.lock().unwrap();
        if service.is_stopped {
            return None;
        }
        let child = self.command(&["run"]).by_user(SERVICE_USER).start();
        service.process = Some(Pid::from_raw(i32::try_from(child.id()).unwrap()));
        Some(child)
    }
}
