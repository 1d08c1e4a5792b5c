//! `RavenXcope`: a one-time install token for each host. A lost reply loses it and the sensor
//! token, so the host is refused, and the operator makes a new install token.

use serde_json::{Value, json};

use super::dialect::{Dialect, OnDisk, Records, list, number, texts};
use super::host::{Enrolled, Host, Ran};
use scenarios::hub::{Operator, text};
use xtask::error::{Result, Stop};

const ENV_FILE: &str = "etc/ravenxcope/sensor-agent.env";

pub(crate) struct Ravenxcope {
    url: String,
}

impl Ravenxcope {
    /// Writes a new install token into the env file.
    async fn write_install_token(&self, operator: &Operator, host: &Host) -> Result<()> {
        let id = sensor(host.number);
        let path = format!("/api/sensors/{id}/install-token");
        let token = text(&operator.post(&path, &json!({})).await?, "installToken")?;
        let url = &self.url;
        host.write(
            ENV_FILE,
            &format!("SENSOR_ID={id}\nINSTALL_TOKEN={token}\nBACKEND_URL={url}\n"),
        )
    }
}

impl Dialect for Ravenxcope {
    const ROUTE: &'static str = "ravenxcope-enroll";
    const ALSO: &'static str = "sensor tokens";

    fn is_enrolment(path: &str) -> bool {
        path.starts_with("/api/sensors/") && path.ends_with("/agent/enroll")
    }

    async fn prepare(_: &Operator, url: &str, _: u32) -> Result<Self> {
        Ok(Self {
            url: url.to_owned(),
        })
    }

    async fn prepare_host(&self, operator: &Operator, host: &Host) -> Result<()> {
        self.write_install_token(operator, host).await
    }

    /// The env file has all settings.
    fn variables(&self, _: &Host) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    async fn fix(&self, operator: &Operator, host: &Host, ran: &Ran) -> Result<bool> {
        if !ran.refused(
            77,
            &["got no response", "make a new install token for sensor"],
        ) {
            return Ok(false);
        }
        self.write_install_token(operator, host).await?;
        Ok(true)
    }

    fn on_disk(&self, host: &Host) -> Result<OnDisk> {
        let file = host.read(ENV_FILE)?;
        let value = |key: &str| {
            let values = file
                .lines()
                .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            match values.collect::<Vec<_>>()[..] {
                [value] => Ok(value.to_owned()),
                ref values => Err(Stop::failed(format!(
                    "{}: {} lines of {key}",
                    host.what(ENV_FILE),
                    values.len()
                ))),
            }
        };
        Ok(OnDisk {
            agent_id: value("SENSOR_ID")?,
            credential: value("SENSOR_TOKEN")?,
        })
    }

    /// Sends a heartbeat, as any program with the token can.
    async fn accepts(&self, operator: &Operator, on_disk: &OnDisk) -> Result<bool> {
        let path = format!("/api/sensors/{}/agent/heartbeat", on_disk.agent_id);
        let heartbeat = json!({
            "cpuUsage": 0.0,
            "memoryUsed": 0,
            "memoryTotal": 0,
            "memoryPercent": 0.0,
            "interfaces": [],
        });
        operator
            .accepts(&path, &on_disk.credential, &heartbeat)
            .await
    }

    async fn records(&self, operator: &Operator, enrolled: &[Enrolled]) -> Result<Records> {
        let sensors = operator.get("/api/sensors").await?;
        let sensors = &sensors["sensors"];
        let has_no_token = |sensor: &&Value| sensor["installTokenExpiresAt"].is_null();
        let is_enrolled = |sensor: &&Value| sensor["status"] == "enrolled";
        let enrolments: usize = list(sensors)
            .map(|sensor| number(sensor, "enrolments"))
            .sum();
        let lost: usize = enrolled.iter().map(|host| host.fixed).sum();
        Ok(Records {
            agents: list(sensors).count(),
            counts: vec![
                (
                    "sensors with a token of their own",
                    list(sensors).filter(is_enrolled).count(),
                ),
                (
                    "enrolments, without those whose reply was lost",
                    enrolments.saturating_sub(lost),
                ),
                (
                    "sensors with no install token left over",
                    list(sensors).filter(has_no_token).count(),
                ),
            ],
            known: texts(sensors, "sensorId")
                .into_iter()
                .map(str::to_owned)
                .collect(),
            known_to: "of these, known to the hub",
        })
    }
}

fn sensor(number: usize) -> String {
    format!("load-{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_env_file_has_one_sensor_token() {
        let hosts = tempfile::tempdir().unwrap();
        let host = Host::new(hosts.path(), 0).unwrap();
        let dialect = Ravenxcope { url: String::new() };
        let on_disk = |tokens: &str| {
            host.write(ENV_FILE, &format!("SENSOR_ID=load-0\n{tokens}"))?;
            dialect.on_disk(&host)
        };
        let one = on_disk("# SENSOR_TOKEN=x\nSENSOR_TOKEN=a\n").unwrap();
        assert_eq!((&*one.agent_id, &*one.credential), ("load-0", "a"));
        for tokens in ["", "SENSOR_TOKEN=a\nSENSOR_TOKEN=b\n"] {
            assert!(on_disk(tokens).is_err(), "{tokens:?}");
        }
    }
}
