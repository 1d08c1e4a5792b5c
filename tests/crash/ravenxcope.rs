//! A `RavenXcope` sensor. Its protocol is not exactly-once: with a lost response, the sensor token is
//! lost. The guarantee instead: the env file is complete and never has two sensor tokens, the install
//! token does not outlive the sensor token, and the next run is enrolled, or fails with the cause and
//! how to fix it.

use crate::common::ravenxcope::{FILE, agent, env_text, file, mint, sensor, sensor_token};
use crate::common::{Prepared, Run, TestHost, TestHub};
use crate::scenario::{Case, Scenario, ensure};

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "a RavenXcope sensor",
        prepare: |hub| Box::new(Sensor::new(hub)),
    },
    Scenario {
        name: "a RavenXcope sensor, enrolled again",
        prepare: |hub| Box::new(Sensor::forced(hub)),
    },
];

struct Sensor {
    host: TestHost,
    id: String,
    install_token: String,
    before: String,
    /// The sensor token that a forced enrolment replaces.
    old: Option<String>,
}

impl Sensor {
    fn new(hub: &TestHub) -> Self {
        let host = TestHost::new();
        let id = host
            .path("")
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let install_token = mint(hub, &id);
        let before = format!(
            "# mine\n{}LOG=x # kept\n",
            env_text(hub, &id, &install_token)
        );
        host.write_file(FILE, &before);
        Self {
            host,
            id,
            install_token,
            before,
            old: None,
        }
    }

    fn forced(hub: &TestHub) -> Self {
        let mut sensor = Self::new(hub);
        agent(&sensor.host, hub, &["enrol"]).run().expect(0);
        sensor.put_new_install_token(hub);
        sensor.before = file(&sensor.host);
        sensor.old = sensor_token(&sensor.host);
        sensor
    }

    /// Replaces the line in its place, as an operator does.
    fn put_new_install_token(&mut self, hub: &TestHub) {
        self.install_token = mint(hub, &self.id);
        let line = |line: &str| {
            if line.contains("INSTALL_TOKEN") {
                format!("INSTALL_TOKEN={}\n", self.install_token)
            } else {
                line.to_owned()
            }
        };
        let text: String = file(&self.host).split_inclusive('\n').map(line).collect();
        self.host.write_file(FILE, &text);
    }

    fn is_enrolled(&self) -> bool {
        sensor_token(&self.host).is_some_and(|token| Some(token) != self.old)
    }
}

impl Case for Sensor {
    fn host(&self) -> &TestHost {
        &self.host
    }

    fn command(&self, hub: &TestHub) -> Prepared {
        let forced: &[&str] = &["enrol", "--force"];
        let arguments = if self.old.is_some() {
            forced
        } else {
            &["enrol"]
        };
        agent(&self.host, hub, arguments)
    }

    fn check_interrupted(&self, _: Option<&[u8]>, run: &Run) -> Result<(), String> {
        let now = file(&self.host);
        let is_old = now == self.before;
        let tokens = now.matches("SENSOR_TOKEN=").count();
        let is_new = tokens == 1
            && ["# mine\n", "LOG=x # kept\n", "SENSOR_ID="]
                .iter()
                .all(|part| now.contains(part))
            && !now.contains(&self.install_token)
            && now.ends_with('\n');
        ensure(
            is_old || (is_new && self.is_enrolled()),
            &format!("torn:\n{now}"),
            run,
        )?;
        ensure(run.code != 0 || is_new, "success without a credential", run)?;
        ensure(
            !run.stderr.contains(&self.install_token),
            "the secret is in the log",
            run,
        )
    }

    fn check_next_run(&self, hub: &TestHub) -> Result<(), String> {
        let enrolments = |hub: &TestHub| sensor(hub, &self.id)["enrolments"].as_i64().unwrap();
        let committed = enrolments(hub) - i64::from(self.old.is_some());
        let mut again = if self.is_enrolled() {
            agent(&self.host, hub, &["enrol"]).run()
        } else {
            self.command(hub).run()
        };
        if again.code != 0 {
            ensure(
                committed == 1,
                "refused, and nothing had been committed",
                &again,
            )?;
            let is_reported = again.code == 77
                && ["got no response", "make a new install token for sensor"]
                    .iter()
                    .all(|part| again.stderr.contains(part));
            ensure(is_reported, "the next run failed without its cause", &again)?;
            // The fix that the message names.
            let fresh = mint(hub, &self.id);
            let line = file(&self.host).replace(&self.install_token, &fresh);
            self.host.write_file(FILE, &line);
            again = self.command(hub).run();
            ensure(again.code == 0, "the run after that failed", &again)?;
        }
        ensure(self.is_enrolled(), "it is not enrolled", &again)?;
        let text = file(&self.host);
        ensure(
            text.matches("SENSOR_TOKEN=").count() == 1 && !text.contains("INSTALL_TOKEN="),
            &format!("not as it has to be:\n{text}"),
            &again,
        )?;
        if self.host.mode(FILE) != 0o600 {
            return Err(format!("mode {:o}", self.host.mode(FILE)));
        }
        let names = self.host.names("etc/ravenxcope");
        if names
            != [
                ".monsys-enrol.json",
                ".monsys-enrol.lock",
                "sensor-agent.env",
            ]
        {
            return Err(format!("stray or missing files: {names:?}"));
        }
        let has_token = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(&self.install_token);
        if let Some((path, _)) = self
            .host
            .files("")
            .iter()
            .find(|(_, bytes)| has_token(bytes))
        {
            return Err(format!("the install token is in {}", path.display()));
        }
        // The backend accepts the token.
        let status = agent(&self.host, hub, &["status", "--output", "json"]).run();
        ensure(status.code == 0, "status fails", &status)?;
        let is_recovered = status.json()["renewing"] == false;
        ensure(is_recovered, "there is still a doubt", &status)
    }
}
