//! `cargo xtask bench`: measurements, which pass or fail by what they prove and never by a time.

mod cpu;
pub(crate) mod enrolment;
mod idle;
mod latency;
mod load;
mod progress;
pub(crate) mod storm;
mod svg;
mod table;

use clap::{Args, Subcommand};

use crate::error::Result;

/// Without a subcommand: the table of all.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, after_help = table::ABOUT)]
pub(crate) struct Bench {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    table: table::Options,
}

#[derive(Subcommand)]
enum Part {
    /// Enrol many hosts at once while replies are lost and hosts are killed, and count the agents
    #[command(after_help = storm::ABOUT)]
    Storm(storm::Options),
    /// Watch a running agent that has nothing to do: memory, wake-ups and processor
    #[command(after_help = idle::ABOUT)]
    Idle(idle::Options),
}

impl Bench {
    pub(crate) async fn run(self) -> Result<()> {
        match self.part {
            None => table::run(&self.table).await,
            Some(Part::Storm(options)) => storm::run(&options).await,
            Some(Part::Idle(options)) => idle::run(&options).await,
        }
    }
}

/// A number as people read it: `10,000`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
