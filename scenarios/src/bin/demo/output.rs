//! The demo's output: numbered steps, each with its command, its result and its checks.

use serde_json::Value;
use xtask::error::{Result, Stop};

/// Numbers the steps and counts the checked facts.
#[derive(Default)]
pub(crate) struct Steps {
    number: u32,
    passed: u32,
    failed: u32,
}

impl Steps {
    /// Begins the next step.
    pub(crate) fn step(&mut self, title: &str) {
        self.number += 1;
        println!("\n{}. {title}", self.number);
    }

    /// Checks that a value is `should`.
    pub(crate) fn equal(&mut self, fact: &str, is: &str, should: &str) {
        self.count(
            fact,
            is == should,
            &format!("it is {is:?}, and should be {should:?}"),
        );
    }

    /// Checks that a fact holds.
    pub(crate) fn holds(&mut self, fact: &str, it_does: bool) {
        self.count(fact, it_does, "that is not so");
    }

    fn count(&mut self, fact: &str, right: bool, otherwise: &str) {
        if right {
            self.passed += 1;
            println!("   ✓ {fact}");
        } else {
            self.failed += 1;
            println!("   ✗ {fact}: {otherwise}");
        }
    }

    /// Prints the last line; an error unless all facts are right.
    pub(crate) fn conclude(&self) -> Result<()> {
        let Self { passed, failed, .. } = self;
        if *failed == 0 {
            println!("\nAll {passed} facts are as they should be.");
            return Ok(());
        }
        let all = passed + failed;
        println!("\n{failed} of {all} facts are WRONG, see ✗ above.");
        Err(Stop::Printed)
    }
}

/// Prints the command that does the step by hand, to be pasted into a shell.
pub(crate) fn by_hand(command: &str) {
    for (number, line) in command.lines().enumerate() {
        println!("   {} {line}", if number == 0 { '$' } else { ' ' });
    }
}

/// Prints a note.
pub(crate) fn note(what: &str) {
    println!("   {what}");
}

/// Prints the output of a program or the content of a file.
pub(crate) fn quote(text: &str) {
    for line in text.trim_end().lines() {
        println!("   │ {line}");
    }
}

/// Prints these fields of a response of the hub, one a line; `facts/kernel` is a field inside a field.
pub(crate) fn fields(answer: &Value, fields: &[&str]) {
    for field in fields {
        let name = field.rsplit('/').next().unwrap_or(field);
        let value = answer.pointer(&format!("/{field}")).unwrap_or(&Value::Null);
        let value = match value.as_str() {
            Some(secret) if name == "token" => hidden(secret),
            _ => plain(value),
        };
        println!("   │ {name:<13} {value}");
    }
}

/// Formats a JSON value without the punctuation.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Formats a secret so that it may be shown: its prefix only.
pub(crate) fn hidden(secret: &str) -> String {
    match secret.split_once('_') {
        Some((kind, _)) => format!("{kind}_… (hidden here)"),
        None => "… (hidden here)".to_owned(),
    }
}
