//! A hub, a host, a token, and the network between them.

use std::fs;
use std::path::PathBuf;

use mock_hub::Options;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Mint, Prepared, Run, TestHost, TestHub};
use crate::network::{Link, Network};
use crate::running_agent::RunningAgent;

/// Everything that one test needs. Fields are dropped in this order: the network last.
pub(crate) struct Topology {
    hub: Option<TestHub>,
    pub(crate) host: TestHost,
    pub(crate) token: String,
    /// The hub's URL on the host.
    pub(crate) url: String,
    /// The CA file of the host, if it trusts more than the built-in roots.
    pub(crate) ca_file: Option<PathBuf>,
    options: Options,
    _folder: TempDir,
    pub(crate) network: Network,
}

impl Topology {
    /// The host reaches the hub itself, over a link.
    pub(crate) fn direct(link: Link) -> Self {
        let listen = format!("{}:8443", link.hub);
        let listen = listen
            .parse()
            .or_else(|_| format!("[{}]:8443", link.hub).parse());
        Self::new(
            Network::with(link),
            Options {
                listen: listen.unwrap(),
                ..Options::default()
            },
        )
    }

    /// The hub hides behind something on its own machine that speaks TLS at `url`.
    pub(crate) fn behind(link: Link, url: &str, ca: &str) -> Self {
        let options = Options {
            listen: "127.0.0.1:8080".parse().unwrap(),
            http: true,
            trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()],
            ..Options::default()
        };
        let mut topology = Self::new(Network::with(link), options);
        url.clone_into(&mut topology.url);
        topology.trust(ca);
        topology
    }

    fn new(network: Network, options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| Some(folder.path().join(name));
        let options = Options {
            tls_dir: path("tls").filter(|_| !options.http),
            database: path("hub.db"),
            admin_token_file: path("admin"),
            ..options
        };
        let hub = TestHub::with(options.clone());
        let host = TestHost::new();
        Self {
            token: hub.token(),
            url: hub.url(),
            ca_file: host.install_ca(&hub),
            host,
            hub: Some(hub),
            options,
            _folder: folder,
            network,
        }
    }

    pub(crate) fn hub(&self) -> &TestHub {
        self.hub.as_ref().unwrap()
    }

    pub(crate) fn stop_hub(&mut self) {
        self.hub = None;
    }

    /// Starts the hub again at the same address and with the same database.
    pub(crate) fn start_hub(&mut self) {
        self.hub = Some(TestHub::with(self.options.clone()));
    }

    /// Restarts the hub, which then trusts only these proxies.
    pub(crate) fn restart_hub_trusting(&mut self, proxies: &[&str]) {
        self.stop_hub();
        let proxies = proxies.iter().map(|cidr| cidr.parse().unwrap());
        self.options.trusted_proxies = proxies.collect();
        self.start_hub();
    }

    /// Replaces the host's token with one for these networks only.
    pub(crate) fn restrict_token_to(&mut self, cidr: &str) {
        let mint = Mint::new().with("allowed_cidrs", Value::from(vec![cidr]));
        self.token = self.hub().mint(&mint).0;
    }

    /// Makes these certificates the only ones that the host trusts.
    pub(crate) fn trust(&mut self, pem: &str) {
        self.ca_file = Some(self.host.write_file("etc/ssl/trusted.pem", pem));
    }

    /// `enrol` on the host.
    pub(crate) fn enrol(&self, more: &[&str]) -> Prepared {
        let mut arguments = vec!["enrol", "--hub-url", &self.url];
        if let Some(ca_file) = &self.ca_file {
            arguments.extend(["--ca-file", ca_file.to_str().unwrap()]);
        }
        arguments.extend(more);
        self.host.agent(&arguments).env("MONSYS_TOKEN", &self.token)
    }

    pub(crate) fn start(&self, agent: Prepared) -> RunningAgent {
        RunningAgent::of(self.network.on_host(|| agent.start()))
    }

    pub(crate) fn run(&self, agent: Prepared) -> Run {
        Run::of(self.network.on_host(|| agent.start()))
    }

    /// Expects an enrolled host: one agent, one use, no secret in the output.
    #[track_caller]
    pub(crate) fn expect_enrolled(&self, run: Run) -> Run {
        let run = self.expect_no_secret(run.expect(0));
        self.hub().expect_one_slot();
        assert!(self.host.agent_toml().contains("agt_"));
        run
    }

    /// Expects a run that failed with `code`, printed `parts` and a hint, and printed no secret.
    #[track_caller]
    pub(crate) fn expect_failed(&self, run: Run, code: i32, parts: &[&str]) -> Run {
        let run = self.expect_no_secret(run.expect(code).expect_stderr(parts));
        let (_, end) = run.stderr.split_once("  cause: ").unwrap();
        assert!(end.contains("\n  hint:  "), "{}", run.stderr);
        assert!(!self.host.path("etc/monsys/agent.toml").exists());
        run
    }

    /// Expects a run as [`Self::expect_failed`] does, and a hub that has no agent and spent no use.
    #[track_caller]
    pub(crate) fn expect_rejected(&self, run: Run, code: i32, parts: &[&str]) -> Run {
        let run = self.expect_failed(run, code, parts);
        if let Some(hub) = &self.hub {
            assert_eq!((hub.agents().len(), hub.spent()), (0, 0));
        }
        run
    }

    fn expect_no_secret(&self, run: Run) -> Run {
        let agent_toml = fs::read_to_string(self.host.path("etc/monsys/agent.toml"));
        let agent_toml = agent_toml.unwrap_or_default();
        let own = agent_toml
            .split('"')
            .filter(|word| word.starts_with("agt_"));
        for secret in own.chain([self.token.as_str()]) {
            let is_printed = run.stdout.contains(secret) || run.stderr.contains(secret);
            assert!(!is_printed, "a secret in\n{}{}", run.stdout, run.stderr);
        }
        run
    }
}
