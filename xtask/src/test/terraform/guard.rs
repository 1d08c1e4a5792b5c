//! What keeps a token out of the inputs that Terraform shows, and its length out of the messages: the
//! conditions of the module themselves, over thousands of tokens.

use std::fs;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

use super::super::Count;
use crate::error::{Context, Result, Stop};
use crate::process;
use crate::terraform::Terraform;

/// Tokens of each kind.
const TOKENS: usize = 2_000;
/// Random bytes of a token, as the hub mints it.
const BYTES: usize = 32;
/// What a name may look like and is no token.
const NAMES: [&str; 6] = [
    "/monsys/enrolment",
    "vault kv get -field=enrl_token_of_production secret/monsys",
    "/prod/enrl_token_of_eu-west-1",
    "/run/secrets/enrl_token",
    "agt_names-of-2024-and-older",
    "platforms_production0123456789",
];

/// The file of a condition, words of its message, the variable in it, and the value of that variable for
/// a text `item`.
const GUARDS: [[&str; 4]; 2] = [
    [
        "variables_token.tf",
        "monsys_token_from holds a token",
        "var.monsys_token_from",
        "{ command = \"echo ${item}\" }",
    ],
    [
        "outputs.tf",
        "An input other than monsys_token",
        "local.shown",
        "jsonencode([[item], \"web\"])",
    ],
];

pub(super) async fn run(terraform: &Terraform, count: &mut Count) {
    for guard in GUARDS {
        let name = format!("{TOKENS} tokens of a kind: {}", guard[1]);
        count.check(&name, sweep(terraform, guard).await);
    }
    let lengths = lengths(terraform).await;
    count.check("no message tells how long the token is", lengths);
}

/// No token passes the condition, and every name does.
async fn sweep(terraform: &Terraform, guard: [&str; 4]) -> Result<()> {
    let [file, message, variable, value] = guard;
    let condition = condition(terraform, file, message)?.replace(variable, value);
    let mut prefixes = vec!["enrl_", "agt_"];
    if variable.starts_with("var.") {
        prefixes.push("ms_");
    }
    let mut tokens = Vec::new();
    for prefix in prefixes {
        for _ in 0..TOKENS {
            let mut bytes = [0; BYTES];
            SystemRandom::new()
                .fill(&mut bytes)
                .map_err(|_| Stop::failed("no random numbers"))?;
            tokens.push(format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)));
        }
    }
    let folder = terraform.folder("guard");
    let what = || "could not write the configuration".to_owned();
    if folder.exists() {
        fs::remove_dir_all(&folder).context(what)?;
    }
    fs::create_dir_all(&folder).context(what)?;
    let main = format!(
        "variable \"items\" {{\n  type = list(string)\n}}\n\
         output \"passed\" {{\n  value = [for item in var.items : item if {condition}]\n}}\n"
    );
    let items: Vec<_> = tokens.iter().map(String::as_str).chain(NAMES).collect();
    let values = json!({ "items": items }).to_string();
    for (name, text) in [("main.tf", main), ("terraform.tfvars.json", values)] {
        fs::write(folder.join(name), text).context(what)?;
    }
    terraform.run("guard", &["init", "-input=false"]).await?;
    let apply = ["apply", "-auto-approve", "-input=false"];
    terraform.run("guard", &apply).await?;
    let passed = terraform
        .run("guard", &["output", "-json", "passed"])
        .await?;
    let passed: Vec<String> = serde_json::from_str(&passed).context(|| "the output".to_owned())?;
    if passed == NAMES {
        return Ok(());
    }
    let tokens = passed.iter().filter(|item| !NAMES.contains(&item.as_str()));
    let refused = NAMES
        .iter()
        .filter(|name| !passed.iter().any(|p| p == *name));
    Err(Stop::failed(format!(
        "of {}: {} tokens pass, such as {:?}; names that do not: {:?}",
        items.len(),
        tokens.clone().count(),
        tokens.take(3).collect::<Vec<_>>(),
        refused.collect::<Vec<_>>()
    )))
}

/// The condition in front of that message, as an expression of one line or in brackets.
fn condition(terraform: &Terraform, file: &str, message: &str) -> Result<String> {
    let text = fs::read_to_string(terraform.folder(file)).context(|| file.to_owned())?;
    let found = text.split_once(message).and_then(|(before, _)| {
        let (_, block) = before.rsplit_once("condition")?;
        let (_, expression) = block.split_once('=')?;
        let (expression, _) = expression.rsplit_once("error_message")?;
        Some(format!("({})", expression.trim()))
    });
    found.ok_or_else(|| Stop::failed(format!("{file} has no condition for {message:?}")))
}

/// User data that is too long is refused in the same words, however long the token is.
async fn lengths(terraform: &Terraform) -> Result<()> {
    for is_gzip in [false, true] {
        let mut said = Vec::new();
        for length in [20, 90, 400] {
            // Half of it random would still tell the length after gzip, so all of it is.
            let mut bytes = vec![0; length];
            SystemRandom::new()
                .fill(&mut bytes)
                .map_err(|_| Stop::failed("no random numbers"))?;
            let token = format!("enrl_{}", &BASE64_URL_SAFE_NO_PAD.encode(bytes)[..length]);
            said.push(refused(terraform, &token, is_gzip).await?);
        }
        if said.iter().any(|text| *text != said[0]) || !said[0].contains("user_data_limit") {
            return Err(Stop::failed(format!(
                "other words each time:\n{}",
                said.join("\n")
            )));
        }
    }
    Ok(())
}

/// What Terraform says of user data with this token, for which there is no room.
async fn refused(terraform: &Terraform, token: &str, is_gzip: bool) -> Result<String> {
    let name = "too-long";
    let folder = terraform.folder(name);
    let what = || "could not write the configuration".to_owned();
    fs::create_dir_all(&folder).context(what)?;
    let main: Value = json!({"module": {"monsys": {"source": "./..", "monsys_token": token,
        "user_data_limit": 100, "user_data_gzip": is_gzip}}});
    fs::write(folder.join("main.tf.json"), main.to_string()).context(what)?;
    terraform.run(name, &["init", "-input=false"]).await?;
    let mut plan = terraform.command(name, &["plan", "-input=false", "-no-color"])?;
    let said = process::capture(&mut plan).await?;
    if said.status.success() {
        return Err(Stop::failed("user data of any length is taken"));
    }
    Ok(said.text())
}
