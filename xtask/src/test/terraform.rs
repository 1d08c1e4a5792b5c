//! The Terraform module: laid out, valid, tested, quick, documented, and without a token where it
//! was given none. Without network: nothing here takes a provider.

mod guard;

use std::fs;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::Count;
use crate::error::{Context, Result, Stop};
use crate::terraform::Terraform;
use crate::{terraform_docs, tools};

/// The examples, each valid and planned but for the resources of its cloud.
const EXAMPLES: [&str; 5] = ["aws-asg", "aws-count", "azure", "gcp", "hcloud"];
/// A token that no host ever had.
const TOKEN: &str = "enrl_NotInTheStateNorInThePlan";

pub(crate) async fn run() -> Result<Count> {
    let terraform = Terraform::new("module").await?;
    let mut count = Count::default();
    count.check(
        "fmt",
        terraform
            .run("", &["fmt", "-check", "-recursive", "-diff"])
            .await
            .map(|_| ()),
    );
    count.check("the page about inputs and outputs", page());
    terraform.run("", &["init", "-input=false"]).await?;
    count.check(
        "validate",
        terraform.run("", &["validate"]).await.map(|_| ()),
    );
    count += tests(&terraform).await?;
    for example in EXAMPLES {
        count.check(example, planned(&terraform, example).await);
    }
    for instances in [50, 1000] {
        count.check("aws-count", timed(&terraform, instances).await);
    }
    count.check("a reference leaves no token", no_token(&terraform).await);
    guard::run(&terraform, &mut count).await;
    Ok(count)
}

/// `terraform test`, counted.
async fn tests(terraform: &Terraform) -> Result<Count> {
    let said = crate::process::capture(&mut terraform.command("", &["test", "-no-color"])?).await?;
    let counted = said.stdout.lines().rev().find_map(|line| {
        let (_, counts) = line.split_once("! ")?;
        Count::from_closing_line(counts.trim_end_matches('.'))
    });
    let counted = counted.ok_or_else(|| Stop::failed(said.text()))?;
    if counted.failed > 0 || !said.status.success() {
        println!("{}", said.text());
    }
    println!("terraform test: {counted}");
    Ok(counted)
}

fn page() -> Result<()> {
    let (is, should_be) = terraform_docs::page()?;
    if is == should_be {
        return Ok(());
    }
    Err(Stop::failed(
        "terraform/README.md is not what the code says: run `cargo xtask docs`",
    ))
}

/// What of the example takes no provider is valid, can be planned, and its other file uses no
/// output that the module does not have.
async fn planned(terraform: &Terraform, example: &str) -> Result<()> {
    let folder = format!("examples/{example}");
    terraform.run(&folder, &["init", "-input=false"]).await?;
    terraform.run(&folder, &["validate"]).await?;
    plan(terraform, &folder, 2).await?;
    let module = terraform_docs::Module::read()?;
    let outputs = module.outputs();
    let whole = tools::root().join("terraform").join(&folder);
    for entry in fs::read_dir(&whole).context(|| folder.clone())? {
        let path = entry.context(|| folder.clone())?.path();
        let text = fs::read_to_string(&path).context(|| folder.clone())?;
        for use_of in text.split("module.monsys").skip(1) {
            // module.monsys[…].OUTPUT, or the whole of it
            let behind = match use_of.strip_prefix('[') {
                Some(index) => index.split_once(']').map_or("", |(_, behind)| behind),
                None => use_of,
            };
            let word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
            if let Some(output) = behind.strip_prefix('.').and_then(|b| b.split(word).next())
                && !outputs.contains(&output)
            {
                return Err(Stop::failed(format!(
                    "{} uses module.monsys.{output}, which is no output",
                    path.display()
                )));
            }
        }
    }
    Ok(())
}

async fn plan(terraform: &Terraform, folder: &str, instances: u32) -> Result<()> {
    let mut plan = terraform.command(folder, &["plan", "-input=false", "-out=plan"])?;
    plan.env("TF_VAR_instances", instances.to_string())
        .env("TF_VAR_monsys_enrolment_token", TOKEN);
    let said = crate::process::capture(&mut plan).await?;
    if said.status.success() {
        return Ok(());
    }
    Err(Stop::failed(said.text()))
}

async fn timed(terraform: &Terraform, instances: u32) -> Result<()> {
    let folder = "examples/aws-count";
    let start = Instant::now();
    plan(terraform, folder, instances).await?;
    let time = start.elapsed();
    let plan = terraform.run(folder, &["show", "-json", "plan"]).await?;
    let plan: Value = serde_json::from_str(&plan).context(|| "the plan".to_owned())?;
    let documents = plan["planned_values"]["outputs"]["user_data"]["value"]
        .as_array()
        .map_or(&[][..], |all| all.as_slice());
    let own = |(i, document): (usize, &Value)| {
        let tag = format!("TAG=shard-{i}\\n");
        document.as_str().is_some_and(|text| text.contains(&tag))
    };
    println!("plan of {instances} instances: {:.2} s", time.as_secs_f64());
    if documents.len() == instances as usize && documents.iter().enumerate().all(own) {
        return Ok(());
    }
    Err(Stop::failed(format!(
        "{} user data, of {instances} with shard-N each",
        documents.len()
    )))
}

/// With a reference, no byte of the token is in state, plan or user data; with the token itself
/// they hold it, or this test would not know it when it sees it.
async fn no_token(terraform: &Terraform) -> Result<()> {
    let file = terraform.folder("token");
    fs::write(&file, TOKEN).context(|| "could not write the token's file".to_owned())?;
    for (inputs, expected) in [
        (json!({"monsys_token": TOKEN}), true),
        (json!({"monsys_token_from": {"file": file}}), false),
        (
            json!({"monsys_token_from": {"command": format!("cat {}", file.display())}}),
            false,
        ),
    ] {
        let found = holds_token(terraform, &inputs).await?;
        if found != expected {
            return Err(Stop::failed(format!(
                "with {inputs}, the token is in state, plan or user data: {found}"
            )));
        }
    }
    Ok(())
}

/// Whether anything that Terraform keeps or shows holds the token, once user data made of `inputs`
/// is in a resource.
async fn holds_token(terraform: &Terraform, inputs: &Value) -> Result<bool> {
    let name = "reference";
    let folder = terraform.folder(name);
    let what = || "could not write the configuration".to_owned();
    if folder.exists() {
        fs::remove_dir_all(&folder).context(what)?;
    }
    fs::create_dir_all(&folder).context(what)?;
    let mut module: Map<String, Value> = inputs.as_object().cloned().unwrap_or_default();
    module.insert("source".into(), "./..".into());
    let outputs = [
        "cloud_init",
        "cloud_init_base64",
        "cloud_init_gzip_base64",
        "install_script",
    ];
    let made: Vec<_> = outputs
        .iter()
        .map(|output| format!("${{module.monsys.{output}}}"))
        .collect();
    let main = json!({
        "module": {"monsys": module},
        "resource": {"terraform_data": {"instance": {"input": made}}},
    });
    fs::write(folder.join("main.tf.json"), main.to_string()).context(what)?;
    terraform.run(name, &["init", "-input=false"]).await?;
    terraform
        .run(name, &["plan", "-input=false", "-out=plan"])
        .await?;
    terraform
        .run(name, &["apply", "-input=false", "plan"])
        .await?;
    let mut shown = String::new();
    for arguments in [&["show", "-json", "plan"][..], &["show", "-json"]] {
        shown += &terraform.run(name, arguments).await?;
    }
    for file in ["terraform.tfstate", "plan"] {
        let bytes = fs::read(folder.join(file)).context(|| file.to_owned())?;
        shown += &String::from_utf8_lossy(&bytes);
    }
    Ok(shown.contains(TOKEN))
}
