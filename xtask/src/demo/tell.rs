//! How the demo talks: numbered steps, each by hand, what came of it, what was checked.

use serde_json::Value;

use crate::test::Count;

/// The narrator. It numbers the steps and counts the facts that it has checked.
#[derive(Default)]
pub(super) struct Tell {
    steps: u32,
    facts: Count,
}

impl Tell {
    /// Begins the next step.
    pub(super) fn step(&mut self, title: &str) {
        self.steps += 1;
        println!("\n{}. {title}", self.steps);
    }

    /// A value that is to be `should`.
    pub(super) fn equal(&mut self, fact: &str, is: &str, should: &str) {
        self.count(
            fact,
            is == should,
            &format!("it is {is:?}, and should be {should:?}"),
        );
    }

    /// A fact that is to hold.
    pub(super) fn holds(&mut self, fact: &str, it_does: bool) {
        self.count(fact, it_does, "that is not so");
    }

    fn count(&mut self, fact: &str, right: bool, otherwise: &str) {
        if right {
            self.facts.passed += 1;
            println!("   ✓ {fact}");
        } else {
            self.facts.failed += 1;
            println!("   ✗ {fact}: {otherwise}");
        }
    }

    /// The last line: were all facts as they should be?
    pub(super) fn conclude(&self) -> Count {
        let Count { passed, failed, .. } = self.facts;
        match failed {
            0 => println!("\nAll {passed} facts are as they should be."),
            _ => println!(
                "\n{failed} of {} facts are WRONG, see ✗ above.",
                passed + failed
            ),
        }
        self.facts
    }
}

/// The same step by hand, to be pasted into a shell.
pub(super) fn by_hand(command: &str) {
    for (number, line) in command.lines().enumerate() {
        println!("   {} {line}", if number == 0 { '$' } else { ' ' });
    }
}

/// Something that a person should know here.
pub(super) fn say(what: &str) {
    println!("   {what}");
}

/// What a program printed, or what is in a file.
pub(super) fn quote(text: &str) {
    for line in text.trim_end().lines() {
        println!("   │ {line}");
    }
}

/// These fields of an answer of the hub, one a line; `facts/kernel` is a field inside a field.
pub(super) fn answer(answer: &Value, fields: &[&str]) {
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

/// A JSON value without the punctuation.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A secret as it may be shown: its kind only.
pub(super) fn hidden(secret: &str) -> String {
    match secret.split_once('_') {
        Some((kind, _)) => format!("{kind}_… (hidden here)"),
        None => "… (hidden here)".to_owned(),
    }
}
