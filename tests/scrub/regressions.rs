//! Earlier faults of the scrubber, by name. The random documents make each of these kinds as well.

use fastrand::Rng;

use crate::case::Case;
use crate::forms::{Base64, Form};
use crate::leaf::{Filler, Sought, fill};
use crate::node::Node;
use crate::packers::Packer;
use crate::random::scratch;
use crate::subject::{self, Fate, Wanted};

const TOKEN: &str = "enrl_Zq3vN8sK1xTfB6yR0uWm4cHd7pLj2gAe";

#[test]
fn an_archive_loses_no_line() {
    let mut files = Vec::new();
    for (seed, length) in [(1, 32 << 10), (2, 64 << 10)] {
        for packer in [
            Packer::Flate2(9),
            Packer::Python("gzip", 9),
            Packer::Python("gzip", 6),
        ] {
            let mut log = Node::of(fill(&mut Rng::with_seed(seed), Filler::Numbers, length));
            log.push("\nMONSYS_TOKEN=");
            log.push_token(TOKEN);
            log.push("\n");
            let archive = log.in_form(Form::Packed(packer));
            let mut json = Node::of("{\"userdata\": \"ci-b64:");
            json.enclose(base64(0, ""), archive.clone());
            json.push("\"}");
            files.extend([archive, json]);
        }
    }
    hold(files);
}

#[test]
fn a_key_after_base64_is_preserved() {
    let mut files = Vec::new();
    for lead in 0..3 {
        for (key, indent) in [("permissions", "  "), ("path", "  "), ("hostname", "")] {
            let mut file = Node::of(format!("#cloud-config\n{indent}content: "));
            file.enclose(base64(0, ""), user_data(lead));
            file.push(format!("\n{indent}{key}: abc\n"));
            files.push(file);
        }
    }
    hold(files);
}

#[test]
fn base64_in_a_block_of_yaml_is_scrubbed() {
    let mut files = Vec::new();
    for lead in 0..3 {
        for (key, between) in [
            ("content: |\n    ", "\n    "),
            ("content: !!binary |\n  ", "\n  "),
            ("content: |\n\t", "\n\t"),
            ("content: '", "\n\n      "),
        ] {
            let mut file = Node::of(format!("- encoding: b64\n  {key}"));
            file.enclose(base64(30, between), user_data(lead));
            file.push("\n  path: /run/x\n");
            files.push(file);
        }
    }
    hold(files);
}

#[test]
fn quoted_printable_utf_16_and_json_in_json_are_scrubbed() {
    let json = || Form::Json {
        ascii: true,
        slash: false,
        odd: false,
    };
    let quoted = |eol, width| Form::Quoted {
        eol,
        width,
        binary: false,
        odd: false,
    };
    let code = || user_data(1).in_form(base64(30, "\n"));
    hold(vec![
        user_data(0).in_form(quoted("\n", 76)),
        user_data(0).in_form(quoted("\r\n", 20)),
        user_data(0).in_form(Form::Utf16 { big: false }),
        user_data(0).in_form(Form::Utf16 { big: true }),
        user_data(0).in_form(json()).in_form(json()),
        code().in_form(json()),
        code().in_form(json()).in_form(json()),
    ]);
}

#[test]
fn archives_that_cannot_be_scrubbed_are_reported() {
    let log = || user_data(0);
    let mut files: Vec<_> = [Packer::Python("xz", 6), Packer::Python("bz2", 9)]
        .map(|packer| log().in_form(Form::Packed(packer)))
        .into();
    files.push(log().in_form(Form::Packed(Packer::Torn(6))));
    hold(files);
}

#[test]
fn a_missing_file_is_reported_as_gone() {
    let folder = scratch();
    let fate = subject::file(&folder.path().join("none"), &Wanted::any_token());
    assert!(matches!(fate, Fate::Gone), "{fate:?}");
}

fn base64(width: usize, between: &str) -> Form {
    Form::Base64(Base64 {
        url: false,
        width,
        between: between.to_owned(),
        padded: false,
    })
}

fn user_data(lead: usize) -> Node {
    let mut node = Node::of(format!("#cloud-config{}\n", "#".repeat(lead)));
    node.push("runcmd:\n- MONSYS_TOKEN=");
    node.push_token(TOKEN);
    node.push(" sh /run/install.sh --tags prod,web\n");
    node
}

/// Scrubs each file with the token known, and by its shape.
fn hold(files: Vec<Node>) {
    let folder = scratch();
    let mut failures = Vec::new();
    for file in files {
        for by_shape in [false, true] {
            let case = Case {
                sought: Sought {
                    token: TOKEN.to_owned(),
                    by_shape,
                },
                file: file.clone(),
            };
            if let Err(error) = case.run(folder.path()) {
                failures.push(format!(
                    "{:?}, by its shape {by_shape}: {error}",
                    case.forms()
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
