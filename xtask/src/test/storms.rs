//! A small storm in each dialect: replies are lost, hosts are killed, and all is counted.

use crate::bench::storm::Dialect;
use clap::ValueEnum;

use super::Count;
use crate::bench::storm;
use crate::error::Result;
use crate::tools;

pub(crate) async fn run() -> Result<Count> {
    let programs = tools::build().await?;
    let mut count = Count::default();
    for &dialect in Dialect::value_variants() {
        let options = storm::small(dialect);
        let (report, verdict) = storm::storm(&options, &programs.agent, &programs.hub).await?;
        println!(
            "{}: {} replies lost\n{verdict}",
            dialect.name(),
            report.dropped()
        );
        // One without a lost reply would show nothing.
        if verdict.holds() && report.dropped() > 0 {
            count.passed += 1;
        } else {
            count.failed += 1;
        }
    }
    Ok(count)
}
