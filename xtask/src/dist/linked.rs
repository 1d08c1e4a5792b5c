//! The crates that are linked into the agent, as cargo knows them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::arch::Arch;
use xtask::error::{Context, Result, Stop};
use xtask::{process, tools};

/// A crate, as `cargo metadata` describes it, and those that it needs itself.
pub(super) struct Linked {
    pub(super) package: Value,
    pub(super) needs: Vec<Value>,
}

/// Every crate that is linked for either architecture, the agent among them.
pub(super) async fn crates() -> Result<Vec<Linked>> {
    let mut crates = Vec::new();
    for arch in Arch::ALL {
        let metadata = metadata(arch).await?;
        for (package, needs) in Graph::of(&metadata)?.walk("monsys-agent")? {
            crates.push(Linked {
                package: package.clone(),
                needs: needs.into_iter().cloned().collect(),
            });
        }
    }
    Ok(crates)
}

async fn metadata(arch: Arch) -> Result<Value> {
    let what = ["metadata", "--format-version=1", "--locked"];
    let mut cargo = tools::cargo(&what);
    let platform = ["--filter-platform", arch.target()];
    let output = process::capture(cargo.args(platform)).await?;
    if !output.status.success() {
        return Err(Stop::failed(output.stderr));
    }
    serde_json::from_str(&output.stdout).context(|| "cargo metadata".to_owned())
}

/// Packages and what each of them needs to be linked with, by package id.
struct Graph<'a> {
    packages: BTreeMap<&'a str, &'a Value>,
    needs: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Graph<'a> {
    fn of(metadata: &'a Value) -> Result<Self> {
        let packages = list(&metadata["packages"]).iter();
        let nodes = list(&metadata["resolve"]["nodes"]).iter();
        let graph = Self {
            packages: packages
                .filter_map(|p| Some((p["id"].as_str()?, p)))
                .collect(),
            needs: nodes
                .filter_map(|node| {
                    let normal =
                        |dep: &&Value| list(&dep["dep_kinds"]).iter().any(|k| k["kind"].is_null());
                    let needs = list(&node["deps"]).iter().filter(normal);
                    Some((
                        node["id"].as_str()?,
                        needs.filter_map(|d| d["pkg"].as_str()).collect(),
                    ))
                })
                .collect(),
        };
        if graph.packages.is_empty() || graph.needs.is_empty() {
            return Err(Stop::failed("cargo metadata lists no packages"));
        }
        Ok(graph)
    }

    /// The package of this name, all below it, and what each needs itself. A procedural macro runs
    /// in the compiler: neither it nor what it needs is linked.
    fn walk(&self, name: &str) -> Result<Vec<(&'a Value, Vec<&'a Value>)>> {
        let is_macro = |package: &Value| {
            let targets = package["targets"].as_array();
            let kinds = targets
                .into_iter()
                .flatten()
                .map(|target| &target["kind"][0]);
            kinds.into_iter().any(|kind| kind == "proc-macro")
        };
        let (first, _) = self
            .packages
            .iter()
            .find(|(_, package)| package["name"] == name)
            .ok_or_else(|| Stop::failed(format!("there is no package {name}")))?;
        let (mut seen, mut open, mut found) = (BTreeSet::new(), vec![*first], Vec::new());
        while let Some(id) = open.pop() {
            let Some(package) = self.packages.get(id) else {
                continue;
            };
            if is_macro(package) || !seen.insert(id) {
                continue;
            }
            let ids = self.needs.get(id).map(Vec::as_slice).unwrap_or_default();
            let needs = ids.iter().filter_map(|id| self.packages.get(id).copied());
            found.push((*package, needs.filter(|p| !is_macro(p)).collect()));
            open.extend(ids);
        }
        Ok(found)
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
