//! The templates under cloud-init/, for people who do not use Terraform. The module makes them all: here
//! are the inputs of each, and the conversion of the module's JSON into YAML as a person would write it.
//! `cargo xtask cloud-init` writes them.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::boot::Boot;
use crate::scene::{Scene, filled_in};
use crate::terraform::{Rendered, Terraform};

const JINJA: &str = "## template: jinja\n";
const HEADER: &str = "#cloud-config\n";

/// A template: its file, its note to the reader, and the module's inputs.
struct Template {
    name: &'static str,
    about: &'static str,
    inputs: Value,
    /// The text stands between parts of the user's own.
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
             cloud-init clean --logs && truncate -s 0 /etc/machine-id",
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

#[test]
fn the_templates_are_those_of_the_module() {
    for (name, text) in all(&Terraform::new()) {
        if std::env::var_os("MONSYS_WRITE_PAGES").is_some() {
            fs::write(path(name), &text).unwrap();
            println!("wrote cloud-init/{name}");
        }
        let is_current = fs::read_to_string(path(name)).is_ok_and(|is| is == text);
        assert!(
            is_current,
            "{name} is not up to date: run `cargo xtask cloud-init`"
        );
    }
}

/// cloud-init runs each template to its end, and its result keeps cloud-init's schema.
#[test]
#[ignore = "needs root: makes mount namespaces"]
fn cloud_init_runs_each_template() {
    let scene = Scene::new();
    let nothing = scene.install_sh("nothing", "echo \"install.sh $*\"");
    let setting = [("INSTALL_URL", vec![format!("INSTALL_URL={nothing}")])];
    let schema = "\"$CLOUD_INIT\" schema --config-file /var/lib/cloud/instance/cloud-config.txt";
    for entry in fs::read_dir(path("")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let boot = Boot::of(filled_in(&text, &setting), schema);
        let ok = boot.is_done()
            && boot.output.contains("install.sh")
            && boot.after.contains("Valid cloud-config")
            && boot.left.is_empty();
        boot.expect(ok, "not run to its end, or not of the schema");
    }
}

/// Reads a template.
pub(crate) fn template(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("cloud-init")
        .join(name)
}

/// The name and the text of each template.
fn all(terraform: &Terraform) -> Vec<(&'static str, String)> {
    let templates = templates();
    let cases: Map<_, _> = templates
        .iter()
        .map(|template| (template.name.to_owned(), template.inputs.clone()))
        .collect();
    let rendered = terraform.render(&cases);
    let text = |template: &Template| {
        let yaml = yaml(&Rendered::of(&rendered, template.name).cloud_init);
        let about: String = template
            .about
            .lines()
            .flat_map(|line| ["# ", line, "\n"])
            .collect();
        let made = "# Generated from the Terraform module by `cargo xtask cloud-init`.\n";
        if template.composed {
            return format!("#cloud-config-archive\n{about}{made}{}", composed(&yaml));
        }
        let body = yaml.trim_start_matches(JINJA).trim_start_matches(HEADER);
        let header = &yaml[..yaml.len() - body.len()];
        format!("{header}{about}{made}{body}")
    };
    let named = templates
        .iter()
        .map(|template| (template.name, text(template)));
    named.collect()
}

/// The module's document as YAML: texts of many lines as blocks, all else as it was.
fn yaml(user_data: &str) -> String {
    let json = user_data.trim_start_matches(JINJA);
    let header = &user_data[..user_data.len() - json.len()];
    let json = json.strip_prefix(HEADER).unwrap();
    let document: Map<String, Value> = serde_json::from_str(json).unwrap();
    let mut yaml = format!("{header}{HEADER}");
    for (key, value) in document.iter().filter(|(key, _)| *key != "write_files") {
        line(&mut yaml, "", key, value);
    }
    yaml.push_str("write_files:\n");
    for file in document["write_files"].as_array().into_iter().flatten() {
        line(&mut yaml, "- ", "path", &file["path"]);
        line(&mut yaml, "  ", "permissions", &file["permissions"]);
        let text = file["content"].as_str().unwrap_or_default();
        assert!(
            header != JINJA || !is_template(text),
            "jinja would take a part of boot.sh for its own"
        );
        yaml.push_str("  content: |\n");
        block(&mut yaml, "    ", text);
    }
    yaml
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
        assert_eq!(yaml(json), expected);
    }

    #[test]
    fn only_the_zone_is_a_template() {
        assert!(!is_template(&format!("TAG={ZONE}\n")));
        assert!(is_template(&format!("TAG={ZONE}\nTAG={ZONE}\n")));
        assert!(is_template("${#1}"));
    }
}
