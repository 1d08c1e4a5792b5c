//! `cargo xtask cloud-init`: the templates under cloud-init/, for people who do not use Terraform.
//!
//! The module makes them all: what is here says which inputs each gets, and writes the module's
//! JSON as a person would write the same YAML.

use std::fmt::Write;
use std::fs;

use serde_json::{Map, Value, json};

use crate::error::{Context, Result, Stop};
use crate::terraform::{Rendered, Terraform};
use crate::tools;

/// Where they are, from the root.
pub(crate) const FOLDER: &str = "cloud-init";
const JINJA: &str = "## template: jinja\n";
const HEADER: &str = "#cloud-config\n";

/// A template: its file, what it tells its reader, and the module's inputs.
struct Template {
    name: &'static str,
    about: &'static str,
    inputs: Value,
    /// Whether it is shown between parts of the user's own.
    composed: bool,
}

fn templates() -> Vec<Template> {
    let token = "enrl_REPLACE-THIS";
    let hub = "https://hub.example.com";
    let template = |name, about, inputs| Template {
        name,
        about,
        inputs,
        composed: false,
    };
    vec![
        template(
            "plain.yaml",
            "One token for all hosts, in the user data. Replace the settings below, and remove those\n\
             that you do not need. After the enrolment the agent scrubs the token from cloud-init's files\n\
             on the host. The cloud's metadata service still returns the token to every process of the\n\
             host. With secret-by-reference.yaml, user data contains no token.",
            json!({"monsys_token": token, "hub_url": hub, "tags": ["shard-1"], "role": "web"}),
        ),
        template(
            "availability-zone.yaml",
            "The availability zone as a tag. cloud-init knows the zone on every cloud, and writes it here.\n\
             Without a zone, as with NoCloud, there is no such tag.",
            json!({"monsys_token": token, "hub_url": hub, "tags": ["asg"], "role": "web",
                   "availability_zone_tag": true}),
        ),
        template(
            "secret-by-reference.yaml",
            "No token in the user data: the host gets the token with a command. This command is for AWS.\n\
             docs/secrets.md has the commands for other clouds, and the minimal policy of each.",
            json!({"hub_url": hub, "tags": ["shard-1"], "role": "web", "monsys_token_from":
                   {"aws_ssm_parameter": {"name": "/monsys/enrolment", "region": "eu-west-1"}}}),
        ),
        template(
            "on-premises.yaml",
            "A hub with a private CA behind a proxy. The hub serves the agent too. Your own provisioning\n\
             writes the file with the token. For NoCloud: cloud-localds seed.img on-premises.yaml",
            json!({"monsys_token_from": {"file": "/etc/monsys-token"}, "hub_url": hub,
                   "install_url": format!("{hub}/install.sh"), "download_url": format!("{hub}/dist"),
                   "ca_pem": "-----BEGIN CERTIFICATE-----\nREPLACE THIS\n-----END CERTIFICATE-----\n",
                   "proxy": "http://proxy.example.com:3128", "no_proxy": ["localhost", "10.0.0.0/8"],
                   "tags": ["on-premises"], "role": "web", "wait": "15m", "splay": "1m"}),
        ),
        template(
            "golden-image.yaml",
            "For the machine that becomes an image, with Packer or manually. This installs the agent and\n\
             spends no use. Each host made from the image enrols at its first boot, with a token from the\n\
             command. The last step before you create the image:\n\
             cloud-init clean --logs --machine-id",
            json!({"hub_url": hub, "tags": ["image-1"], "role": "web", "defer": true,
                   "monsys_token_from": {"command": "vault kv get -field=token secret/monsys/enrolment"}}),
        ),
        Template {
            name: "compose.yaml",
            about: "The agent's part between parts of your own. merge_how in each part adds its lists to those of\n\
                    the parts before it. A part without merge_how replaces them, and the files and commands\n\
                    of all parts before it are lost without a warning. If you cannot change the parts that\n\
                    follow, give the agent's part as a script, which no part replaces: the output\n\
                    install_script of the Terraform module, as text/x-shellscript.",
            inputs: json!({"monsys_token": token, "hub_url": hub, "tags": ["shard-1"], "role": "web"}),
            composed: true,
        },
    ]
}

/// Writes the templates anew.
pub(crate) async fn run() -> Result<()> {
    let folder = tools::root().join(FOLDER);
    fs::create_dir_all(&folder).context(|| format!("could not make {FOLDER}"))?;
    for (name, text) in all(&Terraform::new("templates").await?).await? {
        fs::write(folder.join(name), text).context(|| format!("could not write {name}"))?;
        println!("wrote {FOLDER}/{name}");
    }
    Ok(())
}

/// The name and the text of each template.
pub(crate) async fn all(terraform: &Terraform) -> Result<Vec<(&'static str, String)>> {
    let templates = templates();
    let cases: Map<_, _> = templates
        .iter()
        .map(|template| (template.name.to_owned(), template.inputs.clone()))
        .collect();
    let rendered = terraform.render(&cases).await?;
    let text = |template: &Template| {
        let user_data = Rendered::of(&rendered, template.name)?.cloud_init;
        let about: String = template
            .about
            .lines()
            .flat_map(|line| ["# ", line, "\n"])
            .collect();
        let made = "# Generated from the Terraform module by `cargo xtask cloud-init`.\n";
        let yaml = yaml(&user_data)?;
        Ok((
            template.name,
            if template.composed {
                format!("#cloud-config-archive\n{about}{made}{}", composed(&yaml))
            } else {
                let body = yaml.trim_start_matches(JINJA).trim_start_matches(HEADER);
                let header = &yaml[..yaml.len() - body.len()];
                format!("{header}{about}{made}{body}")
            },
        ))
    };
    templates.iter().map(text).collect()
}

/// The module's document as YAML: texts of many lines as blocks, all else as it was.
fn yaml(user_data: &str) -> Result<String> {
    let json = user_data.trim_start_matches(JINJA);
    let header = &user_data[..user_data.len() - json.len()];
    let json = json
        .strip_prefix(HEADER)
        .ok_or_else(|| Stop::failed(format!("user data without {HEADER:?}: {user_data}")))?;
    let document: Map<String, Value> =
        serde_json::from_str(json).context(|| "the user data's document".to_owned())?;
    let mut yaml = format!("{header}{HEADER}");
    for (key, value) in document.iter().filter(|(key, _)| *key != "write_files") {
        line(&mut yaml, "", key, value);
    }
    yaml.push_str("write_files:\n");
    for file in document["write_files"].as_array().into_iter().flatten() {
        line(&mut yaml, "- ", "path", &file["path"]);
        line(&mut yaml, "  ", "permissions", &file["permissions"]);
        let text = file["content"].as_str().unwrap_or_default();
        if header == JINJA && is_template(text) {
            return Err(Stop::failed(
                "jinja would take a part of boot.sh for its own",
            ));
        }
        yaml.push_str("  content: |\n");
        block(&mut yaml, "    ", text);
    }
    Ok(yaml)
}

/// The one thing in a template that cloud-init is to render.
const ZONE: &str = "{{ v1.availability_zone or '' }}";

fn is_template(text: &str) -> bool {
    let rest = text.replacen(ZONE, "", 1);
    ["{{", "{%", "{#"].iter().any(|mark| rest.contains(mark))
}

/// The agent's part between two of somebody else's.
fn composed(ours: &str) -> String {
    let how = "merge_how: \"list(append)+dict(no_replace,recurse_list)+str()\"\n";
    let first = format!(
        "{HEADER}write_files:\n- path: /etc/motd\n  content: |\n    yours, before\nruncmd:\n- [touch, /run/before]\n"
    );
    let last = format!(
        "{HEADER}{how}write_files:\n- path: /etc/issue\n  content: |\n    yours, after\nruncmd:\n- touch /run/after\n"
    );
    let mut archive = String::new();
    for (about, part) in [
        ("Yours", first.as_str()),
        ("The agent's", ours),
        ("Yours", &last),
    ] {
        // Writing into a string does not fail.
        let _ = writeln!(
            archive,
            "# {about}:\n- type: text/cloud-config\n  content: |"
        );
        block(&mut archive, "    ", part);
    }
    archive
}

fn line(yaml: &mut String, indent: &str, key: &str, value: &Value) {
    let plain = |text: &str| text.starts_with('/') && !text.contains([' ', ':', '#']);
    let _ = match value.as_str() {
        Some(path) if plain(path) => writeln!(yaml, "{indent}{key}: {path}"),
        _ => writeln!(yaml, "{indent}{key}: {value}"),
    };
}

fn block(yaml: &mut String, indent: &str, text: &str) {
    for line in text.lines() {
        let _ = if line.is_empty() {
            writeln!(yaml)
        } else {
            writeln!(yaml, "{indent}{line}")
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_becomes_yaml_that_one_can_read() {
        let json = r#"#cloud-config
{"merge_how":"list(append)","write_files":[{"content":"A=1\n\nB= \"2\"\n","path":"/a","permissions":"0600"}]}
"#;
        let expected = "#cloud-config\nmerge_how: \"list(append)\"\nwrite_files:\n- path: /a\n  \
                        permissions: \"0600\"\n  content: |\n    A=1\n\n    B= \"2\"\n";
        assert_eq!(yaml(json).unwrap(), expected);
    }

    #[test]
    fn only_the_zone_is_a_template() {
        assert!(!is_template(&format!("TAG={ZONE}\n")));
        assert!(is_template(&format!("TAG={ZONE}\nTAG={ZONE}\n")));
        assert!(is_template("${#1}"));
    }
}
