//! `cargo xtask demo`: one enrolment from end to end, on this host, shown and checked.
//!
//! It leaves nothing: the hub is a child that ends with the demo, and all files are in one
//! scratch directory that is removed at the end, also after an error or Ctrl-C.
#![allow(
    clippy::print_stdout,
    reason = "a demo prints to standard output what it does"
)]

mod output;
mod scratch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use scenarios::hub::{Hub, Operator, text};
use serde_json::Value;
use tokio::process::Command;
use xtask::error::{Context, Result};
use xtask::process::{self, Output};
use xtask::tools;

use output::Steps;
use scratch::Scratch;

/// The token that the operator requests: 72 hours, 50 uses.
const WANTED: &str = r#"{
  "name": "production-cluster-eu-west", "ttl_secs": 259200, "max_uses": 50,
  "default_tags": ["prod", "eu-west", "web"], "default_role": "web"}"#;
/// This host's own tag, and what the two together must give.
const OWN_TAG: &str = "shard-3";
const TAGS: &str = "prod,eu-west,web,shard-3";
const ROLE: &str = "web";

/// The operator's calls by hand: the admin token reaches curl by a pipe, not as an argument.
const CALL: &str = r#"call() { path=$1; shift; printf 'Authorization: Bearer %s\n' "$ADMIN_TOKEN" |
    curl -sS --cacert "$CA" -H @- "$HUB/api/v1/$path" "$@"; }"#;
const MAKE_ROOT: &str = r#"mkdir -p "$DEMO/host/etc"
cp -L /etc/os-release /etc/machine-id "$DEMO/host/etc/"
cp "$CA" "$DEMO/host/etc/hub-ca.pem""#;
const ENROL: &str = r#"MONSYS_TOKEN="$TOKEN" MONSYS_TAGS=shard-3 monsys-agent enrol \
    --root "$DEMO/host" --hub-url "$HUB" --ca-file "$DEMO/host/etc/hub-ca.pem""#;

#[derive(Parser)]
#[command(
    name = "cargo xtask demo",
    about = "Enrols this host into a hub on loopback, and checks the result"
)]
struct Options {
    /// Hold the hub and the scratch root open until Enter, to try the `$` lines by hand
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    xtask::finish(run(Options::parse().keep))
}

/// Shows one enrolment; with `keep`, holds it open until Enter. Fails unless all facts are right.
async fn run(keep: bool) -> Result<()> {
    println!("One enrolment, from a shared secret to a credential of this host's own.");
    println!("A line after $ does the step by hand; with --keep, you can try it.");
    let mut steps = Steps::default();
    let programs = build(&mut steps).await?;
    let scratch = Scratch::new()?;
    let hub = start_hub(&mut steps, &programs, &scratch).await?;
    let mut demo = Demo {
        operator: hub.operator()?,
        steps,
        programs,
        scratch,
        hub,
    };
    let token = demo.mint().await?;
    demo.make_root()?;
    demo.enrol(&token).await?;
    demo.check_the_file(&token)?;
    demo.check_the_hub(&token).await?;
    demo.check_the_agent().await?;
    demo.enrol_again(&token).await?;
    demo.end(keep, &token).await
}

struct Programs {
    agent: PathBuf,
    hub: PathBuf,
}

async fn build(steps: &mut Steps) -> Result<Programs> {
    steps.step("Build the agent and the hub (the first time takes a while)");
    output::by_hand("cargo build -p monsys-agent -p mock-hub; PATH=\"$PWD/target/debug:$PATH\"");
    let [agent, hub] = tools::build(["monsys-agent", "mock-hub"], &[]).await?;
    Ok(Programs { agent, hub })
}

async fn start_hub(steps: &mut Steps, programs: &Programs, scratch: &Scratch) -> Result<Hub> {
    steps.step("Start a hub on a free loopback port");
    output::by_hand("DEMO=$(mktemp -d); mock-hub --tls-dir \"$DEMO/hub\" &");
    let hub = Hub::start(&programs.hub, &scratch.hub()).await?;
    output::note(&format!(
        "It listens on {}, with a CA that it has just made.",
        hub.url
    ));
    output::note(
        "Its first line names url, ca_file and admin_token: HUB, CA and ADMIN_TOKEN below.",
    );
    output::by_hand(CALL);
    Ok(hub)
}

/// A demo whose hub is up.
struct Demo {
    // Dropped in this order: the hub ends before its scratch directory goes.
    hub: Hub,
    operator: Operator,
    programs: Programs,
    steps: Steps,
    scratch: Scratch,
}

/// The enrolment token and its id.
struct Token {
    id: String,
    secret: String,
}

impl Demo {
    async fn mint(&mut self) -> Result<Token> {
        self.steps
            .step("Mint an enrolment token, as the operator: one for 50 hosts, for 72 hours");
        output::by_hand(&format!("call enrolment-tokens --json '{WANTED}'"));
        let wanted = serde_json::from_str(WANTED).context(|| "the demo's own JSON".to_owned())?;
        let minted = self.operator.post("enrolment-tokens", &wanted).await?;
        let fields = ["id", "token", "default_tags", "default_role", "expires_at"];
        output::fields(&minted, &fields);
        Ok(Token {
            id: text(&minted, "id")?,
            secret: text(&minted, "token")?,
        })
    }

    fn make_root(&mut self) -> Result<()> {
        self.steps
            .step("Give this host a scratch root, so that nothing outside it is touched");
        output::by_hand(MAKE_ROOT);
        output::note(
            "Under --root the agent reads the host's own files there too: with the first two,",
        );
        output::note("the facts are those of this host. The CA is for later: agent.toml names it.");
        self.scratch.copy_host_files(&self.hub)
    }

    async fn enrol(&mut self, token: &Token) -> Result<()> {
        self.steps
            .step("Enrol this host, which adds a tag of its own");
        output::by_hand(ENROL);
        let ran = self.agent_enrol(token).await?;
        output::quote(&ran.text());
        ended_well("enrol", &ran)
    }

    fn check_the_file(&mut self, token: &Token) -> Result<()> {
        self.steps.step("Look at what it wrote");
        output::by_hand("cat \"$DEMO/host/etc/monsys/agent.toml\"");
        let file = self.scratch.agent_toml()?;
        output::quote(&file.masked());
        let tags = file.list("tags").join(",");
        self.steps
            .equal("tags: the token's first, then the host's own", &tags, TAGS);
        self.steps
            .equal("role: the token's", &file.text("role"), ROLE);
        let own = file.text("agent_token").starts_with("agt_");
        self.steps
            .holds("the credential is one of this host's own", own);
        self.steps
            .equal("only its owner can read it", &file.mode, "0600");
        let nowhere = self.scratch.host_files_with(&token.secret)?.is_empty();
        self.steps
            .holds("the enrolment token is in no file of the host", nowhere);
        Ok(())
    }

    async fn check_the_hub(&mut self, token: &Token) -> Result<()> {
        self.steps
            .step("Look at the hub: the host, its token, and the uses that are left");
        output::by_hand("call agents");
        let agents = self.operator.get("agents").await?;
        let agent = &agents["agents"][0];
        let fields = [
            "agent_id",
            "facts/hostname",
            "facts/os_info",
            "tags",
            "role",
        ];
        output::fields(agent, &fields);
        let id = self.scratch.agent_toml()?.text("agent_id");
        self.steps.equal(
            "it knows this host by the id in agent.toml",
            &text(agent, "agent_id")?,
            &id,
        );

        output::by_hand("call \"enrolment-tokens/$ID/uses\"");
        let uses = self
            .operator
            .get(&format!("enrolment-tokens/{}/uses", token.id))
            .await?;
        let rows = uses["uses"].as_array().cloned().unwrap_or_default();
        for row in &rows {
            output::fields(row, &["token_id", "agent_id", "source_ip", "used_at"]);
        }
        let who: Vec<_> = rows
            .iter()
            .filter_map(|row| row["agent_id"].as_str())
            .collect();
        self.steps.holds(
            "the audit has one row, and it is this host",
            who == [id.as_str()],
        );

        output::by_hand("call \"enrolment-tokens/$ID\"");
        let state = self.state_of(token).await?;
        output::fields(&state, &["name", "status", "uses", "max_uses"]);
        self.steps
            .equal("1 of 50 uses is spent", &spent(&state), "1 of 50");
        Ok(())
    }

    async fn check_the_agent(&mut self) -> Result<()> {
        self.steps
            .step("Run the agent's second command, which shows its state");
        output::by_hand("monsys-agent status --root \"$DEMO/host\"");
        let ran = process::capture(&mut self.agent("status")).await?;
        output::quote(&ran.text());
        let id = self.scratch.agent_toml()?.text("agent_id");
        self.steps.holds(
            "it knows itself under the same id",
            ran.stdout.contains(&id),
        );
        ended_well("status", &ran)
    }

    async fn enrol_again(&mut self, token: &Token) -> Result<()> {
        self.steps
            .step("Enrol again: nothing happens, and nothing is spent");
        output::by_hand(ENROL);
        let before = self.scratch.agent_toml()?;
        let ran = self.agent_enrol(token).await?;
        output::quote(&ran.text());
        self.steps.holds(
            "the hub confirms that the host is enrolled",
            ran.text().contains("the hub has confirmed it"),
        );
        self.steps.holds(
            "agent.toml is as it was",
            self.scratch.agent_toml()? == before,
        );
        let state = self.state_of(token).await?;
        self.steps
            .equal("still 1 of 50 uses", &spent(&state), "1 of 50");
        ended_well("the second enrol", &ran)
    }

    async fn end(self, keep: bool, token: &Token) -> Result<()> {
        let facts = self.steps.conclude();
        if keep {
            let env = self
                .scratch
                .write_env(&self.hub, &self.programs.agent, token, CALL)?;
            println!(
                "\nThe hub is still there. In another shell, say\n   $ . {}",
                env.display()
            );
            println!("and try any line after $ above. Enter ends and removes all of it.");
            wait_for_enter().await?;
        }
        self.hub.stop().await?;
        self.scratch.remove()?;
        println!("The hub has ended and its files are gone; nothing is left.");
        facts
    }

    async fn agent_enrol(&self, token: &Token) -> Result<Output> {
        let mut enrol = self.agent("enrol");
        enrol.args(["--hub-url", &self.hub.url]);
        enrol.arg("--ca-file").arg(self.scratch.host_ca());
        // The secret is in this child's environment alone, and never an argument.
        enrol
            .env("MONSYS_TOKEN", &token.secret)
            .env("MONSYS_TAGS", OWN_TAG);
        process::capture(&mut enrol).await
    }

    async fn state_of(&self, token: &Token) -> Result<Value> {
        self.operator
            .get(&format!("enrolment-tokens/{}", token.id))
            .await
    }

    /// The agent below its scratch root, with nothing of our environment.
    fn agent(&self, command: &str) -> Command {
        let mut agent = Command::new(&self.programs.agent);
        agent
            .arg(command)
            .arg("--root")
            .arg(self.scratch.host())
            .env_clear();
        agent
    }
}

/// The share of a token's uses that is spent.
fn spent(token: &Value) -> String {
    format!("{} of {}", token["uses"], token["max_uses"])
}

fn ended_well(what: &str, ran: &Output) -> Result<()> {
    process::succeeded(&format!("monsys-agent {what}"), ran.status)
}

/// Waits for Enter or the end of our own input, in a thread, so that Ctrl-C is still heard.
async fn wait_for_enter() -> Result<()> {
    use std::io::Read;
    let read = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    let what = || "could not read standard input".to_owned();
    read.await.context(what)?.context(what).map(|_| ())
}
