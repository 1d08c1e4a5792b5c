//! The line of one event, before it is cleaned.

use std::error::Error;
use std::fmt::{self, Debug, Write};
use std::time::SystemTime;

use serde_json::Value;
use tracing::Event;
use tracing::field::{Field, Visit};

use agent_core::clock;

/// The field that the text of an event is in.
const MESSAGE: &str = "message";

/// Returns the line in text: level, target if `has_target`, message and fields.
pub(super) fn text(event: &Event<'_>, has_target: bool) -> String {
    let mut line = format!("{:>5}", event.metadata().level());
    if has_target {
        line.push(' ');
        line.push_str(event.metadata().target());
        line.push(':');
    }
    let mut fields = TextFields(line);
    event.record(&mut fields);
    fields.0
}

/// Returns the line in JSON: time, level, message and fields, and target.
pub(super) fn json(event: &Event<'_>, now: SystemTime) -> String {
    let mut members = Members("{".to_owned());
    members.add("timestamp", &clock::rfc3339_micros(now).into());
    members.add("level", &event.metadata().level().as_str().into());
    event.record(&mut members);
    members.add("target", &event.metadata().target().into());
    members.0.push('}');
    members.0
}

/// Appends each field after a space.
struct TextFields(String);

impl Visit for TextFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let text = Visible::of(&format_args!("{value}"));
        let mut sources = Vec::new();
        let mut source = value.source();
        while let Some(error) = source {
            sources.push(Visible::of(&format_args!("{error}")));
            source = error.source();
        }
        if sources.is_empty() {
            self.record_debug(field, &format_args!("{text}"));
            return;
        }
        let (name, sources) = (field.name(), sources.join(", "));
        self.record_debug(field, &format_args!("{text} {name}.sources=[{sources}]"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push(' ');
        if field.name() == MESSAGE {
            self.0.push_str(&Visible::of(value));
            return;
        }
        // `r#type` is the field `type`.
        self.0.push_str(field.name().trim_start_matches("r#"));
        self.0.push('=');
        // Writing to a string fails only if the value does: the rest of the line is still worth having.
        let _ = write!(self.0, "{value:?}");
    }
}

/// Appends each field as a member of an object.
struct Members(String);

impl Members {
    fn add(&mut self, name: &str, value: &Value) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        let _ = write!(self.0, "{}:{value}", Value::from(name));
    }
}

impl Visit for Members {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), &value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), &value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), &value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), &value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), &value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.add(field.name(), &text.into());
    }
}

/// Writes the controls of terminals as escapes.
struct Visible(String);

impl Visible {
    fn of(value: &dyn Debug) -> String {
        let mut visible = Self(String::new());
        let _ = write!(visible, "{value:?}");
        visible.0
    }
}

impl Write for Visible {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '\u{7}' | '\u{8}' | '\u{c}' | '\u{1b}' | '\u{7f}' => {
                    write!(self.0, "\\x{:02x}", u32::from(character))?;
                }
                '\u{80}'..='\u{9f}' => self.0.extend(character.escape_unicode()),
                _ => self.0.push(character),
            }
        }
        Ok(())
    }
}
