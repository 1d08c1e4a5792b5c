//! The Terraform module: its layout, its validity, its own tests, its documentation, and no token where
//! it was given none. Without network: nothing here needs a provider.
//!
//! `cargo xtask test terraform` checks that Terraform is there, and runs these.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests lay out files, run programs, and fail by panicking"
)]

mod checkout;
mod ephemeral;
mod guard;
mod page;
mod policies;
mod refusals;
#[path = "../common/terraform.rs"]
#[allow(dead_code, reason = "the other tests use all of it")]
mod terraform;

use std::fs;
use std::time::Instant;

use serde_json::{Map, Value, json};

use terraform::{Terraform, source, succeeded};

/// A token that no host ever had.
const TOKEN: &str = "enrl_NotInTheStateNorInThePlan";

#[test]
fn the_code_is_formatted_and_valid() {
    let terraform = Terraform::new();
    terraform.run("", &["fmt", "-check", "-recursive", "-diff"]);
    terraform.run("", &["init", "-input=false"]);
    terraform.run("", &["validate"]);
}

#[test]
fn the_modules_own_tests_pass() {
    let terraform = Terraform::new();
    terraform.run("", &["init", "-input=false"]);
    let output = terraform.run("", &["test", "-no-color"]);
    let last = output.lines().rev().find(|line| line.contains("! "));
    println!("terraform test: {}", last.unwrap_or_default());
    let passed = last.and_then(|line| {
        let (_, counts) = line.split_once("! ")?;
        counts
            .split_once(" passed, 0 failed")?
            .0
            .parse::<u32>()
            .ok()
    });
    assert!(passed.is_some_and(|passed| passed > 0), "{output}");
}

#[test]
fn the_example_aws_asg_can_be_planned() {
    can_be_planned("aws-asg");
}

#[test]
fn the_example_aws_count_can_be_planned() {
    can_be_planned("aws-count");
}

#[test]
fn the_example_azure_can_be_planned() {
    can_be_planned("azure");
}

#[test]
fn the_example_gcp_can_be_planned() {
    can_be_planned("gcp");
}

#[test]
fn the_example_hcloud_can_be_planned() {
    can_be_planned("hcloud");
}

/// The files that need no provider are valid and can be planned, and the others use no output that the
/// module does not have.
#[track_caller]
fn can_be_planned(example: &str) {
    let terraform = Terraform::new();
    let folder = format!("examples/{example}");
    terraform.run(&folder, &["init", "-input=false"]);
    terraform.run(&folder, &["validate"]);
    plan(&terraform, &folder, 2);
    let outputs = page::outputs();
    for entry in fs::read_dir(source(&folder)).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for usage in text.split("module.monsys").skip(1) {
            // `module.monsys[…].OUTPUT`, or all of the module
            let behind = match usage.strip_prefix('[') {
                Some(index) => index.split_once(']').map_or("", |(_, behind)| behind),
                None => usage,
            };
            let word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
            if let Some(output) = behind.strip_prefix('.').and_then(|b| b.split(word).next()) {
                assert!(
                    outputs.iter().any(|name| name == output),
                    "{}: module.monsys.{output} is not an output",
                    path.display()
                );
            }
        }
    }
}

#[track_caller]
fn plan(terraform: &Terraform, folder: &str, instances: usize) {
    let mut plan = terraform.command(folder, &["plan", "-input=false", "-out=plan"]);
    plan.env("TF_VAR_instances", instances.to_string())
        .env("TF_VAR_monsys_enrolment_token", TOKEN);
    succeeded(&plan.output().unwrap());
}

#[test]
fn each_of_many_instances_has_user_data_of_its_own() {
    let terraform = Terraform::new();
    let folder = "examples/aws-count";
    terraform.run(folder, &["init", "-input=false"]);
    for instances in [50, 1000] {
        let start = Instant::now();
        plan(&terraform, folder, instances);
        println!("plan of {instances} instances: {:.2?}", start.elapsed());
        let plan = terraform.run(folder, &["show", "-json", "plan"]);
        let plan: Value = serde_json::from_str(&plan).unwrap();
        let documents = &plan["planned_values"]["outputs"]["user_data"]["value"];
        let documents = documents.as_array().unwrap();
        assert_eq!(documents.len(), instances);
        for (i, document) in documents.iter().enumerate() {
            let tag = format!("TAG=shard-{i}\\n");
            assert!(document.as_str().unwrap().contains(&tag), "no {tag}");
        }
    }
}

/// With a reference, no byte of the token is in state, plan or user data; with the token itself they
/// hold it, which shows that this test finds it.
#[test]
fn a_reference_leaves_no_token() {
    let terraform = Terraform::new();
    let file = terraform.folder("token");
    fs::write(&file, TOKEN).unwrap();
    let command = format!("cat {}", file.display());
    for (inputs, expected) in [
        (json!({"monsys_token": TOKEN}), true),
        (json!({"monsys_token_from": {"file": file}}), false),
        (json!({"monsys_token_from": {"command": command}}), false),
    ] {
        assert_eq!(holds_token(&terraform, &inputs), expected, "{inputs}");
    }
}

/// Returns whether anything that Terraform stores or shows holds the token, once user data made of
/// `inputs` is in a resource.
fn holds_token(terraform: &Terraform, inputs: &Value) -> bool {
    let name = "reference";
    let mut module: Map<String, Value> = inputs.as_object().unwrap().clone();
    module.insert("source".into(), "./..".into());
    let outputs: Vec<_> = page::outputs()
        .iter()
        .map(|output| format!("${{module.monsys.{output}}}"))
        .collect();
    let main = json!({
        "module": {"monsys": module},
        "resource": {"terraform_data": {"instance": {"input": outputs}}},
    });
    terraform.lay(name, &[("main.tf.json", main.to_string())]);
    terraform.run(name, &["init", "-input=false"]);
    terraform.run(name, &["plan", "-input=false", "-out=plan"]);
    terraform.run(name, &["apply", "-input=false", "plan"]);
    let mut shown = terraform.run(name, &["show", "-json", "plan"]);
    shown += &terraform.run(name, &["show", "-json"]);
    for file in ["terraform.tfstate", "plan"] {
        let bytes = fs::read(terraform.folder(name).join(file)).unwrap();
        shown += &String::from_utf8_lossy(&bytes);
    }
    shown.contains(TOKEN)
}
