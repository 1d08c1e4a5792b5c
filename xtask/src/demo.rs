//! `cargo xtask demo`: one enrolment from end to end, on this host, shown and checked.
//!
//! It leaves nothing: the hub is a child that ends with the demo, and all files are in one
//! scratch directory that is removed at the end, also after an error or Ctrl-C.

mod scratch;
mod tell;

use serde_json::Value;
use tokio::process::Command;

use crate::error::{Context, Result};
use crate::hub::{Hub, Operator, text};
use crate::process::{self, Output};
use crate::test::Count;
use crate::tools::{self, Programs};
use scratch::Scratch;
use tell::Tell;

/// What the operator asks for: 72 hours, 50 uses.
const WANTED: &str = r#"{
  "name": "production-cluster-eu-west", "ttl_secs": 259200, "max_uses": 50,
  "default_tags": ["prod", "eu-west", "web"], "default_role": "web"}"#;
/// This host's own tag, and what the two together must give.
const OWN_TAG: &str = "shard-3";
const TAGS: &str = "prod,eu-west,web,shard-3";
const ROLE: &str = "web";

/// The operator's calls by hand: the admin token reaches curl by a pipe, not as an argument.
const ASK: &str = r#"ask() { path=$1; shift; printf 'Authorization: Bearer %s\n' "$ADMIN_TOKEN" |
    curl -sS --cacert "$CA" -H @- "$HUB/api/v1/$path" "$@"; }"#;
const GIVE_ROOT: &str = r#"mkdir -p "$DEMO/host/etc"
cp -L /etc/os-release /etc/machine-id "$DEMO/host/etc/"
cp "$CA" "$DEMO/host/etc/hub-ca.pem""#;
const ENROL: &str = r#"MONSYS_TOKEN="$TOKEN" MONSYS_TAGS=shard-3 monsys-agent enrol \
    --root "$DEMO/host" --hub-url "$HUB" --ca-file "$DEMO/host/etc/hub-ca.pem""#;

/// Shows the whole of it; with `keep`, holds it open until Enter. Counts the facts it checked.
pub(crate) async fn run(keep: bool) -> Result<Count> {
    println!("One enrolment, from a shared secret to a credential of this host's own.");
    println!("A line after $ does the step by hand; with --keep, you can try it.");
    let mut tell = Tell::default();
    let programs = build(&mut tell).await?;
    let scratch = Scratch::new()?;
    let hub = start_hub(&mut tell, &programs, &scratch).await?;
    let mut demo = Demo {
        operator: hub.operator()?,
        tell,
        programs,
        scratch,
        hub,
    };
    let token = demo.mint().await?;
    demo.give_the_host_a_root()?;
    demo.enrol(&token).await?;
    demo.look_at_the_file(&token)?;
    demo.ask_the_hub(&token).await?;
    demo.ask_the_agent().await?;
    demo.enrol_again(&token).await?;
    demo.end(keep, &token).await
}

async fn build(tell: &mut Tell) -> Result<Programs> {
    tell.step("Build the agent and the hub (the first time takes a while)");
    tell::by_hand("cargo build -p monsys-agent -p mock-hub; PATH=\"$PWD/target/debug:$PATH\"");
    tools::build().await
}

async fn start_hub(tell: &mut Tell, programs: &Programs, scratch: &Scratch) -> Result<Hub> {
    tell.step("Start a hub on a free loopback port");
    tell::by_hand("DEMO=$(mktemp -d); mock-hub --tls-dir \"$DEMO/hub\" &");
    let hub = Hub::start(&programs.hub, &scratch.hub()).await?;
    tell::say(&format!(
        "It listens on {}, with a CA that it has just made.",
        hub.url
    ));
    tell::say("Its first line names url, ca_file and admin_token: HUB, CA and ADMIN_TOKEN below.");
    tell::by_hand(ASK);
    Ok(hub)
}

/// A demo whose hub is up.
struct Demo {
    // Dropped in this order: the hub ends before its scratch directory goes.
    hub: Hub,
    operator: Operator,
    programs: Programs,
    tell: Tell,
    scratch: Scratch,
}

/// The enrolment token and the name under which the operator asks for it.
struct Token {
    id: String,
    secret: String,
}

impl Demo {
    async fn mint(&mut self) -> Result<Token> {
        self.tell
            .step("Mint an enrolment token, as the operator: one for 50 hosts, for 72 hours");
        tell::by_hand(&format!("ask enrolment-tokens --json '{WANTED}'"));
        let wanted = serde_json::from_str(WANTED).context(|| "the demo's own JSON".to_owned())?;
        let minted = self.operator.post("enrolment-tokens", &wanted).await?;
        let fields = ["id", "token", "default_tags", "default_role", "expires_at"];
        tell::answer(&minted, &fields);
        Ok(Token {
            id: text(&minted, "id")?,
            secret: text(&minted, "token")?,
        })
    }

    fn give_the_host_a_root(&mut self) -> Result<()> {
        self.tell
            .step("Give this host a scratch root, so that nothing outside it is touched");
        tell::by_hand(GIVE_ROOT);
        tell::say(
            "Under --root the agent reads the host's own files there too: with the first two,",
        );
        tell::say("what it tells of the host is true. The CA is for later: agent.toml names it.");
        self.scratch.copy_host_files(&self.hub)
    }

    async fn enrol(&mut self, token: &Token) -> Result<()> {
        self.tell
            .step("Enrol this host, which adds a tag of its own");
        tell::by_hand(ENROL);
        let said = self.agent_enrol(token).await?;
        tell::quote(&said.text());
        ended_well("enrol", &said)
    }

    fn look_at_the_file(&mut self, token: &Token) -> Result<()> {
        self.tell.step("Look at what it wrote");
        tell::by_hand("cat \"$DEMO/host/etc/monsys/agent.toml\"");
        let file = self.scratch.agent_toml()?;
        tell::quote(&file.masked());
        let tags = file.list("tags").join(",");
        self.tell
            .equal("tags: the token's first, then the host's own", &tags, TAGS);
        self.tell
            .equal("role: the token's", &file.text("role"), ROLE);
        let own = file.text("agent_token").starts_with("agt_");
        self.tell
            .holds("the credential is one of this host's own", own);
        self.tell
            .equal("only its owner can read it", &file.mode, "0600");
        let nowhere = self.scratch.host_files_with(&token.secret)?.is_empty();
        self.tell
            .holds("the enrolment token is in no file of the host", nowhere);
        Ok(())
    }

    async fn ask_the_hub(&mut self, token: &Token) -> Result<()> {
        self.tell
            .step("Ask the hub: which host came, with which token, and what is left of it");
        tell::by_hand("ask agents");
        let agents = self.operator.get("agents").await?;
        let agent = &agents["agents"][0];
        let fields = [
            "agent_id",
            "facts/hostname",
            "facts/os_info",
            "tags",
            "role",
        ];
        tell::answer(agent, &fields);
        let id = self.scratch.agent_toml()?.text("agent_id");
        self.tell.equal(
            "it knows this host by the id in agent.toml",
            &text(agent, "agent_id")?,
            &id,
        );

        tell::by_hand("ask \"enrolment-tokens/$ID/uses\"");
        let uses = self
            .operator
            .get(&format!("enrolment-tokens/{}/uses", token.id))
            .await?;
        let rows = uses["uses"].as_array().cloned().unwrap_or_default();
        for row in &rows {
            tell::answer(row, &["token_id", "agent_id", "source_ip", "used_at"]);
        }
        let who: Vec<_> = rows
            .iter()
            .filter_map(|row| row["agent_id"].as_str())
            .collect();
        self.tell.holds(
            "the audit has one row, and it is this host",
            who == [id.as_str()],
        );

        tell::by_hand("ask \"enrolment-tokens/$ID\"");
        let state = self.state_of(token).await?;
        tell::answer(&state, &["name", "status", "uses", "max_uses"]);
        self.tell
            .equal("1 of 50 uses is spent", &spent(&state), "1 of 50");
        Ok(())
    }

    async fn ask_the_agent(&mut self) -> Result<()> {
        self.tell
            .step("Ask the agent: the second command, which proves it");
        tell::by_hand("monsys-agent status --root \"$DEMO/host\"");
        let said = process::capture(&mut self.agent("status")).await?;
        tell::quote(&said.text());
        let id = self.scratch.agent_toml()?.text("agent_id");
        self.tell.holds(
            "it knows itself under the same id",
            said.stdout.contains(&id),
        );
        ended_well("status", &said)
    }

    async fn enrol_again(&mut self, token: &Token) -> Result<()> {
        self.tell
            .step("Enrol again: nothing happens, and nothing is spent");
        tell::by_hand(ENROL);
        let before = self.scratch.agent_toml()?;
        let said = self.agent_enrol(token).await?;
        tell::quote(&said.text());
        self.tell.holds(
            "it says that it is enrolled already",
            said.text().contains("already"),
        );
        self.tell.holds(
            "agent.toml is as it was",
            self.scratch.agent_toml()? == before,
        );
        let state = self.state_of(token).await?;
        self.tell
            .equal("still 1 of 50 uses", &spent(&state), "1 of 50");
        ended_well("the second enrol", &said)
    }

    async fn end(self, keep: bool, token: &Token) -> Result<Count> {
        let facts = self.tell.conclude();
        if keep {
            let env = self
                .scratch
                .write_env(&self.hub, &self.programs, token, ASK)?;
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
        Ok(facts)
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

/// How much of a token is used up.
fn spent(token: &Value) -> String {
    format!("{} of {}", token["uses"], token["max_uses"])
}

fn ended_well(what: &str, said: &Output) -> Result<()> {
    process::succeeded(&format!("monsys-agent {what}"), said.status)
}

/// Waits for Enter or the end of our own input, in a thread, so that Ctrl-C is still heard.
async fn wait_for_enter() -> Result<()> {
    use std::io::Read;
    let read = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    let what = || "could not read standard input".to_owned();
    read.await.context(what)?.context(what).map(|_| ())
}
