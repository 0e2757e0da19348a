//! The measurement behind `saga bench`: processes, load, resource usage and report.

mod load;
mod process_usage;
mod processes;
pub(crate) mod report;

use std::{path::PathBuf, time::Duration};

use saga_kafka::{EmbeddedBroker, KafkaConfig};

use self::{load::Load, process_usage::Usage, processes::Processes, report::Measured};
use saga_tools::{flow::FlowTopics, output::say};

use crate::flow;

/// The measurement's settings.
pub(crate) struct Plan {
    pub(crate) in_flight: Vec<usize>,
    pub(crate) rounds: usize,
    pub(crate) round: Duration,
    pub(crate) warm_up: Duration,
}

/// Partitions of the embedded broker's topics: the default of `SAGA_TOPIC_PARTITIONS`.
const PARTITIONS: i32 = 6;

/// Starts the services, measures, and stops them.
pub(crate) async fn run(
    plan: Plan,
    kafka: Option<KafkaConfig>,
    database_url: Option<String>,
    bin: Option<PathBuf>,
) -> anyhow::Result<Vec<Measured>> {
    // Dropping the broker stops it.
    let embedded = match kafka {
        Some(_) => None,
        None => Some(EmbeddedBroker::start(&topics()?, PARTITIONS)?),
    };
    let kafka = match (&embedded, kafka) {
        (Some(broker), _) => broker.config(),
        (None, Some(kafka)) => kafka,
        (None, None) => unreachable!("one of the two was chosen above"),
    };
    say(&format!("starting the four services on {}", kafka.bootstrap_servers()));
    let processes = Processes::start(kafka.bootstrap_servers(), database_url, bin).await?;
    processes.fill_stock().await?;
    let mut load = Load::start(&kafka).await?;
    let mut measured = Vec::new();
    for in_flight in plan.in_flight {
        say(&format!("{in_flight} in flight, warming up for {:?}", plan.warm_up));
        load.run(in_flight, plan.warm_up).await?;
        for round in 1..=plan.rounds {
            let before = Usage::of(&processes);
            let result = load.run(in_flight, plan.round).await?;
            let usage = Usage::of(&processes).since(&before, result.took);
            say(&format!("{in_flight} in flight, round {round}: {:.0} sagas/s", result.per_second()));
            measured.push(Measured::new(in_flight, round, &result, usage));
        }
    }
    processes.stop().await?;
    Ok(measured)
}

fn topics() -> anyhow::Result<Vec<String>> {
    Ok(FlowTopics::of(&flow::order_flow()?, &saga_core::Namespace::default()).all())
}
