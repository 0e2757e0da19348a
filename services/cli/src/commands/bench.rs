//! `saga bench`: measures the throughput and latency of the four services.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;

use saga_tools::KafkaArgs;

use crate::bench::{self, Plan};

/// Measure the throughput and latency of the four services
///
/// Runs a closed loop of sagas, each started by an `order.created` and ended by its `order.confirmed`. The services are
/// the release binaries, one process each, with their default settings.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    /// Number of sagas in flight, one measurement for each
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,64,256,1024")]
    in_flight: Vec<usize>,
    /// Rounds per measurement
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Length of a round, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 6)]
    seconds: u64,
    /// Length of the warm-up before each measurement, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    warm_up: u64,
    /// The services' database: postgres://.. for all four [default: SQLite in a temporary folder]
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Measure on the embedded broker instead of the one at --bootstrap-servers
    #[arg(long)]
    embedded: bool,
    /// The folder of the service binaries [default: this program's folder]
    #[arg(long, value_name = "FOLDER")]
    bin: Option<PathBuf>,
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kafka: KafkaArgs,
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let plan = Plan {
            in_flight: self.in_flight,
            rounds: self.rounds.max(1),
            round: Duration::from_secs(self.seconds.max(1)),
            warm_up: Duration::from_secs(self.warm_up),
        };
        let kafka = if self.embedded { None } else { Some(self.kafka.config()?) };
        let results = runtime.block_on(bench::run(plan, kafka, self.database_url, self.bin))?;
        bench::report::print(&results, self.json)?;
        Ok(ExitCode::SUCCESS)
    }
}
