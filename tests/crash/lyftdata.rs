//! A `LyftData` worker: a lost response cannot be requested again and makes no second worker; after
//! every other injection, the next run completes the enrolment.

use reqwest::Method;
use serde_json::json;

use crate::common::lyftdata::{FILES, JOBS, SECRET, configure, file, worker, workers};
use crate::common::{Prepared, Run, TestHost, TestHub};
use crate::scenario::{Case, Scenario, ensure};

/// The API key that the server gives to every worker.
const API_KEY: &str = "key-of-the-fleet";

pub(crate) const ALL: &[Scenario] = &[Scenario {
    name: "a LyftData worker",
    prepare: |hub| Box::new(Worker::of(hub)),
}];

struct Worker {
    host: TestHost,
    name: String,
}

impl Worker {
    fn of(hub: &TestHub) -> Self {
        configure(
            hub,
            json!({"enabled": true, "enrollment_secret": SECRET, "enrollment_api_key": API_KEY}),
        );
        let host = TestHost::new();
        // Made before the run, as an operator does: its creation is not tested here.
        std::fs::create_dir_all(host.path(JOBS)).unwrap();
        let name = host.path("").display().to_string();
        Self { host, name }
    }

    fn ids(&self, hub: &TestHub) -> Vec<String> {
        let mine = |worker: &(String, String)| worker.1 == self.name;
        let workers = workers(hub).into_iter().filter(mine);
        workers.map(|(id, _)| id).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.host.path(JOBS).join(name).exists()
    }
}

impl Case for Worker {
    fn host(&self) -> &TestHost {
        &self.host
    }

    fn command(&self, hub: &TestHub) -> Prepared {
        worker(&self.host, hub, &self.name, &["run", "worker"])
    }

    fn check_interrupted(&self, _: Option<&[u8]>, run: &Run) -> Result<(), String> {
        for name in FILES.into_iter().filter(|name| self.has(name)) {
            let text = file(&self.host, name);
            let is_complete = if name == FILES[0] {
                text == API_KEY
            } else {
                text.len() == 32
            };
            ensure(is_complete, &format!("{name} is torn: {text:?}"), run)?;
        }
        let is_enrolled = FILES.iter().all(|name| self.has(name));
        ensure(
            run.code != 0 || is_enrolled,
            "success without a credential",
            run,
        )
    }

    fn check_next_run(&self, hub: &TestHub) -> Result<(), String> {
        let mut again = self.command(hub).run();
        if again.code != 0 {
            let is_reported = again.code == 65
                && ["already exists", "a response to this host was lost"]
                    .iter()
                    .all(|part| again.stderr.contains(part));
            ensure(is_reported, "the next run failed without its cause", &again)?;
            let ids = self.ids(hub);
            let [id] = &ids[..] else {
                return Err(format!("{ids:?} at the server after a lost answer"));
            };
            // The fix that the message names.
            hub.call(Method::DELETE, &format!("/api/workers/{id}"), None);
            again = self.command(hub).run();
            ensure(again.code == 0, "the run after that failed", &again)?;
        }
        let id = file(&self.host, "LYFTDATA_WORKER_ID");
        if self.ids(hub) != [id] {
            return Err(format!("{:?} at the server", self.ids(hub)));
        }
        let expected = [
            FILES[0],
            ".monsys-enrol.lock",
            ".monsys-worker.json",
            FILES[1],
        ];
        if self.host.names(JOBS) != expected {
            return Err(format!(
                "stray or missing files: {:?}",
                self.host.names(JOBS)
            ));
        }
        let modes = FILES.map(|name| self.host.mode(&format!("{JOBS}/{name}")));
        if modes != [0o600; 2] {
            return Err(format!("modes {modes:?}"));
        }
        let has_secret = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(SECRET);
        match self
            .host
            .files("")
            .iter()
            .find(|(_, bytes)| has_secret(bytes))
        {
            Some((path, _)) => Err(format!("the secret is in {}", path.display())),
            None => ensure(
                !again.stderr.contains(SECRET),
                "the secret is in the log",
                &again,
            ),
        }
    }
}
