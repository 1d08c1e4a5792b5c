//! Ephemeral values (Terraform 1.10 and newer): user data is a part of the state, so it cannot hold one.

use std::fs;

use serde_json::json;

use crate::TOKEN;
use crate::terraform::Terraform;

/// The title of Terraform's own error.
const REFUSAL: &str = "Ephemeral value not allowed";

#[test]
fn an_ephemeral_token_is_refused_as_the_page_says() {
    let terraform = Terraform::new();
    let folder = "ephemeral";
    let main = json!({
        "variable": {"token": {"type": "string", "ephemeral": true}},
        "module": {"monsys": {"source": "./..", "monsys_token": "${var.token}"}},
    });
    terraform.lay(folder, &[("main.tf.json", main.to_string())]);
    terraform.run(folder, &["init", "-input=false"]);
    let mut plan = terraform.command(folder, &["plan", "-input=false", "-no-color"]);
    let output = plan.env("TF_VAR_token", TOKEN).output().unwrap();
    assert!(
        !output.status.success(),
        "the module has taken an ephemeral value"
    );
    let message = String::from_utf8([output.stderr, output.stdout].concat()).unwrap();
    assert!(message.contains(REFUSAL), "{message}");
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/terraform.md")).unwrap();
    assert!(
        page.contains(REFUSAL),
        "docs/terraform.md does not quote it"
    );
}
