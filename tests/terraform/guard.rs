//! The conditions that keep a token out of the inputs that Terraform shows, and its length out of the
//! messages, over thousands of random tokens.

use std::fs;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;

use crate::terraform::Terraform;

/// Tokens of each kind.
const TOKENS: usize = 2_000;
/// Random bytes of a token, as the hub mints it.
const BYTES: usize = 32;
/// Names that look like a token and are none.
const NAMES: [&str; 6] = [
    "/monsys/enrolment",
    "vault kv get -field=enrl_token_of_production secret/monsys",
    "/prod/enrl_token_of_eu-west-1",
    "/run/secrets/enrl_token",
    "agt_names-of-2024-and-older",
    "platforms_production0123456789",
];

#[test]
fn no_reference_is_a_token() {
    sweep(
        "variables_token.tf",
        "monsys_token_from holds a token",
        ("var.monsys_token_from", "{ command = \"echo ${item}\" }"),
        &["enrl_", "agt_", "ms_"],
    );
}

#[test]
fn no_other_input_is_a_token() {
    sweep(
        "outputs.tf",
        "An input other than monsys_token",
        ("local.shown", "jsonencode([[item], \"web\"])"),
        &["enrl_", "agt_"],
    );
}

/// No token passes the condition in front of this message, and every name does.
fn sweep(file: &str, message: &str, (variable, value): (&str, &str), prefixes: &[&str]) {
    let terraform = Terraform::new();
    let condition = condition(&terraform, file, message).replace(variable, value);
    let mut items: Vec<String> = NAMES.map(str::to_owned).into();
    for prefix in prefixes {
        items.extend((0..TOKENS).map(|_| format!("{prefix}{}", random(BYTES))));
    }
    let main = format!(
        "variable \"items\" {{\n  type = list(string)\n}}\n\
         output \"passed\" {{\n  value = [for item in var.items : item if {condition}]\n}}\n"
    );
    let values = json!({ "items": items }).to_string();
    terraform.lay(
        "guard",
        &[("main.tf", main), ("terraform.tfvars.json", values)],
    );
    terraform.apply("guard");
    let passed = terraform.run("guard", &["output", "-json", "passed"]);
    let passed: Vec<String> = serde_json::from_str(&passed).unwrap();
    assert_eq!(passed, NAMES);
}

/// The condition in front of that message, as an expression of one line or in brackets.
fn condition(terraform: &Terraform, file: &str, message: &str) -> String {
    let text = fs::read_to_string(terraform.folder(file)).unwrap();
    let (before, _) = text.split_once(message).unwrap();
    let (_, block) = before.rsplit_once("condition").unwrap();
    let (_, expression) = block.split_once('=').unwrap();
    let (expression, _) = expression.rsplit_once("error_message").unwrap();
    format!("({})", expression.trim())
}

/// User data that is too long is refused in the same words, however long the token is.
#[test]
fn no_message_depends_on_the_length_of_the_token() {
    let terraform = Terraform::new();
    for is_gzip in [false, true] {
        let messages = [20, 90, 400].map(|length| {
            // All of it is random: gzip must not make it shorter.
            let token = format!("enrl_{}", &random(length)[..length]);
            refusal(&terraform, &token, is_gzip)
        });
        assert!(messages[0].contains("user_data_limit"), "{}", messages[0]);
        assert!(
            messages.iter().all(|message| *message == messages[0]),
            "{messages:#?}"
        );
    }
}

/// Terraform's message about user data with this token, for which there is no room.
fn refusal(terraform: &Terraform, token: &str, is_gzip: bool) -> String {
    let name = "too-long";
    let main = json!({"module": {"monsys": {"source": "./..", "monsys_token": token,
        "user_data_limit": 100, "user_data_gzip": is_gzip}}});
    terraform.lay(name, &[("main.tf.json", main.to_string())]);
    terraform.run(name, &["init", "-input=false"]);
    let mut plan = terraform.command(name, &["plan", "-input=false", "-no-color"]);
    let output = plan.output().unwrap();
    assert!(!output.status.success(), "user data of any length is taken");
    String::from_utf8([output.stderr, output.stdout].concat()).unwrap()
}

fn random(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    SystemRandom::new().fill(&mut random).unwrap();
    BASE64_URL_SAFE_NO_PAD.encode(random)
}
