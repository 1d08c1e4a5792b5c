//! The bill of materials of all that is linked into the agent, in the JSON of `CycloneDX`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Release;
use super::folder::{read, sha256};
use super::linked::Linked;
use xtask::error::{Context, Result, Stop};
use xtask::tools;

/// Every crate that is linked for either architecture, with its licence and its checksum.
pub(super) fn make(release: &Release, linked: &[Linked]) -> Result<Vec<u8>> {
    let checksums = checksums()?;
    let mut crates = BTreeMap::new();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for linked in linked {
        let of = reference(&linked.package);
        let its = edges.entry(of.clone()).or_default();
        its.extend(linked.needs.iter().map(reference));
        crates.insert(of, component(&linked.package, &checksums));
    }
    let agent = format!("pkg:cargo/monsys-agent@{}", release.version);
    let main = crates
        .remove(&agent)
        .ok_or_else(|| Stop::failed(format!("cargo metadata does not know {agent}")))?;
    let dependencies: Vec<_> = edges
        .iter()
        .map(|(of, on)| json!({"ref": of, "dependsOn": on}))
        .collect();
    let components: Vec<_> = crates.into_values().collect();
    let serial = serial(&json!([components, dependencies]).to_string());
    let sbom = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{serial}"),
        "version": 1,
        "metadata": {
            "timestamp": timestamp(release.epoch)?,
            "component": main,
        },
        "components": components,
        "dependencies": dependencies,
    });
    let mut text = serde_json::to_vec_pretty(&sbom).context(|| "no JSON".to_owned())?;
    text.push(b'\n');
    Ok(text)
}

/// As the ecosystem names packages across tools.
fn reference(package: &Value) -> String {
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    format!("pkg:cargo/{}@{}", text("name"), text("version"))
}

fn component(package: &Value, checksums: &BTreeMap<String, String>) -> Value {
    let reference = reference(package);
    let is_agent = package["source"].is_null();
    let mut component = json!({
        "type": if is_agent { "application" } else { "library" },
        "bom-ref": reference,
        "name": package["name"],
        "version": package["version"],
        "purl": reference,
    });
    if let Some(description) = package["description"].as_str() {
        component["description"] = json!(description.trim());
    }
    if let Some(licence) = package["license"].as_str() {
        // Crates of old say "or" by a slash.
        let expression = licence.replace(" OR ", "/").replace('/', " OR ");
        component["licenses"] = json!([{ "expression": expression }]);
    }
    if let Some(checksum) = checksums.get(&reference) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    if let Some(url) = package["repository"].as_str() {
        component["externalReferences"] = json!([{"type": "vcs", "url": url}]);
    }
    component
}

/// From Cargo.lock, what the registry's archive of each package has to hash to.
fn checksums() -> Result<BTreeMap<String, String>> {
    let what = || "Cargo.lock".to_owned();
    let lock = String::from_utf8(read(&tools::root().join("Cargo.lock"))?).context(what)?;
    let lock: toml::Table = lock.parse().context(what)?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    Ok(packages
        .into_iter()
        .flatten()
        .filter_map(|package| {
            let (name, version) = (text(package, "name")?, text(package, "version")?);
            Some((
                format!("pkg:cargo/{name}@{version}"),
                text(package, "checksum")?,
            ))
        })
        .collect())
}

fn timestamp(epoch: u64) -> Result<String> {
    i64::try_from(epoch)
        .ok()
        .and_then(|epoch| OffsetDateTime::from_unix_timestamp(epoch).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .ok_or_else(|| Stop::failed(format!("{epoch} is not a time")))
}

/// A UUID (version 8) of the content: the same parts have the same number.
fn serial(content: &str) -> String {
    let hash = sha256(content.as_bytes());
    format!(
        "{}-{}-8{}-8{}-{}",
        &hash[..8],
        &hash[8..12],
        &hash[12..15],
        &hash[15..18],
        &hash[18..30]
    )
}
