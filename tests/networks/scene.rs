//! A hub, a host, a token, and the network between them.

use std::fs;
use std::path::PathBuf;

use mock_hub::Options;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Mint, Prepared, Run, TestHost, TestHub};
use crate::live::Live;
use crate::network::{Cable, Network};

/// Everything that one test needs. Fields are dropped in this order: the network last.
pub(crate) struct Scene {
    hub: Option<TestHub>,
    pub(crate) host: TestHost,
    pub(crate) token: String,
    /// Where the host finds the hub.
    pub(crate) url: String,
    /// Whom the host trusts, if not the built-in roots alone.
    pub(crate) ca_file: Option<PathBuf>,
    options: Options,
    _kept: TempDir,
    pub(crate) network: Network,
}

impl Scene {
    /// The host reaches the hub itself, over a cable.
    pub(crate) fn direct(cable: Cable) -> Self {
        let listen = format!("{}:8443", cable.hub);
        let listen = listen
            .parse()
            .or_else(|_| format!("[{}]:8443", cable.hub).parse());
        Self::new(
            Network::with(cable),
            Options {
                listen: listen.unwrap(),
                ..Options::default()
            },
        )
    }

    /// The hub hides behind something on its own machine that speaks TLS at `url`.
    pub(crate) fn behind(cable: Cable, url: &str, ca: &str) -> Self {
        let options = Options {
            listen: "127.0.0.1:8080".parse().unwrap(),
            http: true,
            trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()],
            ..Options::default()
        };
        let mut scene = Self::new(Network::with(cable), options);
        url.clone_into(&mut scene.url);
        scene.trust(ca);
        scene
    }

    fn new(network: Network, options: Options) -> Self {
        let kept = tempfile::tempdir().unwrap();
        let path = |name| Some(kept.path().join(name));
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
            _kept: kept,
            network,
        }
    }

    pub(crate) fn hub(&self) -> &TestHub {
        self.hub.as_ref().unwrap()
    }

    pub(crate) fn hub_dies(&mut self) {
        self.hub = None;
    }

    /// The hub is back, at the same address and with all that it knew.
    pub(crate) fn hub_returns(&mut self) {
        self.hub = Some(TestHub::with(self.options.clone()));
    }

    /// The hub starts anew, and believes these proxies only.
    pub(crate) fn hub_trusts(&mut self, proxies: &[&str]) {
        self.hub_dies();
        let proxies = proxies.iter().map(|cidr| cidr.parse().unwrap());
        self.options.trusted_proxies = proxies.collect();
        self.hub_returns();
    }

    /// The host's token can be used from these networks only.
    pub(crate) fn allow_only(&mut self, cidr: &str) {
        let mint = Mint::new().with("allowed_cidrs", Value::from(vec![cidr]));
        self.token = self.hub().mint(&mint).0;
    }

    /// The host trusts these certificates, and no others.
    pub(crate) fn trust(&mut self, pem: &str) {
        self.ca_file = Some(self.host.lay("etc/ssl/trusted.pem", pem));
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

    pub(crate) fn start(&self, agent: Prepared) -> Live {
        Live::of(self.network.on_host(|| agent.start()))
    }

    pub(crate) fn run(&self, agent: Prepared) -> Run {
        Run::of(self.network.on_host(|| agent.start()))
    }

    /// The host is enrolled: one agent, one use, no secret told.
    #[track_caller]
    pub(crate) fn enrolled(&self, run: Run) -> Run {
        let run = self.quiet(run.expect(0));
        self.hub().expect_one_slot();
        assert!(self.host.agent_toml().contains("agt_"));
        run
    }

    /// The run failed with `code`, said `parts` and how to fix it, and told no secret.
    #[track_caller]
    pub(crate) fn failed(&self, run: Run, code: i32, parts: &[&str]) -> Run {
        let run = self.quiet(run.expect(code).says(parts));
        let (_, end) = run.stderr.split_once("  cause: ").unwrap();
        assert!(end.contains("\n  hint:  "), "{}", run.stderr);
        assert!(!self.host.path("etc/monsys/agent.toml").exists());
        run
    }

    /// The run failed, as with [`Self::failed`], and the hub has not heard of the host.
    #[track_caller]
    pub(crate) fn refused(&self, run: Run, code: i32, parts: &[&str]) -> Run {
        let run = self.failed(run, code, parts);
        if let Some(hub) = &self.hub {
            assert_eq!((hub.agents().len(), hub.spent()), (0, 0));
        }
        run
    }

    fn quiet(&self, run: Run) -> Run {
        let agent_toml = fs::read_to_string(self.host.path("etc/monsys/agent.toml"));
        let agent_toml = agent_toml.unwrap_or_default();
        let own = agent_toml
            .split('"')
            .filter(|word| word.starts_with("agt_"));
        for secret in own.chain([self.token.as_str()]) {
            let told = run.stdout.contains(secret) || run.stderr.contains(secret);
            assert!(!told, "a secret in\n{}{}", run.stdout, run.stderr);
        }
        run
    }
}
