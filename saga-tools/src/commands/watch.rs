//! `saga watch`: all sagas as they go.

use std::{io, process::ExitCode, time::Duration};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use saga_core::graph::Choreography;

use crate::{
    flow::FlowTopics,
    kafka::{KafkaArgs, KafkaArgsError},
    since::Since,
    watch::{self, Settings, WatchError},
};

const EXAMPLES: &str = "\
Examples:
  saga watch
  saga watch --since 2h --interval 5s
  saga watch --json | jq -c '{under_way, finished: .rates.interval.finished}'

JSON: one object per line. `under_way` counts the unfinished sagas, `waiting` says for which step they wait (given_up: a
dead letter says that it will not come by itself), `ended` how the others ended, `oldest` are the five oldest, `rates` are
per second. `caught_up` is false until everything written before the start has been read; `trouble` says what is wrong
with the connection. Fields may be added; those that are there stay.

Sagas whose events were all written before --since are not known. One whose start was not seen is forgotten when it is
silent for three deadlines (15 min where none is declared), unless a dead letter says that it is held; `forgotten` counts
those. `of_other_flows` counts the sagas with events that the flow does not know, and without a start that it knows: of
those nothing else is said.

Ctrl-C and SIGTERM end it, with exit code 0.";

/// Follow all sagas: how many wait for which step, the oldest, and how many start and end per second
///
/// Redraws a terminal in place, and otherwise writes a line per interval. Joins no consumer group, commits nothing and
/// creates nothing; a broker that goes away is waited for.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Watch {
    /// Read back to a time (2026-01-31T12:00:00Z), or a while (15m, 2h), so that the sagas under way are known
    #[arg(long, value_name = "TIME|DURATION", value_parser = Since::parse, default_value = "15m")]
    since: Since,
    /// Read everything that there is
    #[arg(long, conflicts_with = "since")]
    from_beginning: bool,
    /// How often to show how things stand
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "1s")]
    interval: Duration,
    /// Follow so many unfinished sagas at most
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = most)]
    most: usize,
    /// Print a JSON object per interval, each in a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kafka: KafkaArgs,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchCommandError {
    #[error(transparent)]
    Settings(#[from] KafkaArgsError),
    #[error("no runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Watch(#[from] WatchError),
}

impl Watch {
    pub(crate) fn run(self, flow: &Choreography) -> Result<ExitCode, WatchCommandError> {
        let Self { since, from_beginning, interval, most, json, kafka } = self;
        let since = (!from_beginning).then(|| since.before(Timestamp::now()));
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
