//! `saga watch`: follows all sagas.

use std::{io, process::ExitCode, time::Duration};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use saga_core::graph::Choreography;

use crate::{
    flow::FlowTopics,
    kafka::{KafkaArgs, KafkaArgsError},
    start_time::StartTime,
    watch::{self, Settings, WatchError},
};

const EXAMPLES: &str = "\
Examples:
  saga watch
  saga watch --since 2h --interval 5s
  saga watch --json | jq -c '{in_flight, finished: .rates.interval.finished}'

JSON: one object per line. `in_flight` counts the unfinished sagas. `waiting` lists the steps that they wait for, with the
number of sagas `blocked` by a dead letter. `ended` counts the others by their end. `oldest` lists the five oldest sagas
(`blocked_by`: the dead letter's reason). `rates` are per second. `caught_up` is false until everything written before the
start has been read. `trouble` is the connection error, if any. Fields may be added.

Sagas whose events were all written before --since are not shown. A saga without an observed start is forgotten after a
silence of three deadlines (15 min if the flow declares none), unless a dead letter blocks it; `forgotten` counts those.
`of_other_flows` counts the sagas that have events unknown to the flow and no start that it knows.

Ctrl-C and SIGTERM end the command with exit code 0.";

/// Follow all sagas: how many wait for which step, the oldest, and how many start and end per second
///
/// Redraws a terminal in place; otherwise writes one line per interval. Joins no consumer group, commits no offset and
/// creates no topic. Waits for a broker that becomes unreachable.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Watch {
    /// Read back to a time (2026-01-31T12:00:00Z) or by a duration (15m, 2h), to find the sagas in flight
    #[arg(long, value_name = "TIME|DURATION", value_parser = StartTime::parse, default_value = "15m")]
    since: StartTime,
    /// Read the topics from their beginning
    #[arg(long, conflicts_with = "since")]
    from_beginning: bool,
    /// Time between two updates
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "1s")]
    interval: Duration,
    /// Follow at most this many unfinished sagas
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = most)]
    most: usize,
    /// Print one JSON object per interval, each on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kafka: KafkaArgs,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchCommandError {
    #[error(transparent)]
    Settings(#[from] KafkaArgsError),
    #[error("the async runtime cannot be started")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Watch(#[from] WatchError),
}

impl Watch {
    pub(crate) fn run(self, flow: &Choreography) -> Result<ExitCode, WatchCommandError> {
        let Self { since, from_beginning, interval, most, json, kafka } = self;
        let since = (!from_beginning).then(|| since.resolve(Timestamp::now()));
        let (topics, kafka) = (FlowTopics::of(flow, kafka.namespace()), kafka.config()?);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(WatchCommandError::Runtime)?;
        runtime.block_on(watch::run(&kafka, flow, topics, Settings { since, interval, most, json }))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    let allowed = Duration::from_millis(100)..=Duration::from_secs(3600);
    parsed
        .filter(|duration| allowed.contains(duration))
        .ok_or_else(|| "expected a duration from 100ms to 1h".to_owned())
}

fn most(text: &str) -> Result<usize, String> {
    let parsed = text.parse().ok().filter(|most| (1..=10_000_000).contains(most));
    parsed.ok_or_else(|| "expected a number from 1 to 10000000".to_owned())
}
