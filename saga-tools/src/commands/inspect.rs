//! `saga inspect`: all events and dead letters of one saga, read from Kafka.

use std::{
    env,
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::Args;
use jiff::Timestamp;
use saga_core::graph::Choreography;
use uuid::Uuid;

use crate::{
    flow::FlowTopics,
    inspect::{InspectError, Search, look_up},
    kafka::{KafkaArgs, KafkaArgsError},
    output::{OutputError, print, print_json, say},
    start_time::StartTime,
};

const PLACE: &str = "{trace_id}";
/// Jaeger's UI at its default address.
const TRACE_URL: &str = "http://127.0.0.1:16686/trace/{trace_id}";

const EXAMPLES: &str = "\
Examples:
  saga inspect 0197fd0c-92cb-7e5b-8a4e-51a0e1a3a001
  saga inspect 0197fd0c-92cb-7e5b-8a4e-51a0e1a3a001 --since 2h --own-partition
  saga inspect 0197fd0c-92cb-7e5b-8a4e-51a0e1a3a001 --json | jq -r .status

JSON: `status` is completed, compensated, partly_compensated, unfinished, contradictory or unknown. `failed_compensations`
lists the steps whose compensation failed for good: what they did is still in place. `expected` lists the steps that the saga
waits for (`blocked_by`: the reason of the dead letter that blocks the step). `timeline` lists the records in order
(`what`: event, duplicate, dead_letter or unreadable). `trace` holds the addresses of its traces; `carried` is false when
no event carries the trace id, which is then the saga's id. Fields may be added. Times are RFC 3339, UTC.

`unknown_events` lists the types that the flow does not know. A saga that has such events and no start known to the flow
belongs to another flow: its `status` is unknown and `expected` is empty.

Exit codes: 0 the saga was found; 1 it was not found or could not be read; 2 the command line is wrong; 3 it was found, but
has both ends, a compensation that failed for good, or events that the flow does not know (name its flow with --flow).";

/// Exit code for a saga that was found in an unexpected state.
const UNEXPECTED_STATE: u8 = 3;

/// Show one saga: its events and dead letters, the step that published each, and the steps expected next
///
/// Reads the flow's topics and dead-letter topics up to their current end. Joins no consumer group, commits no offset and
/// creates no topic. Hides the events' data, except for the reason of a refusal.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Inspect {
    /// The saga's id (a UUID in any spelling), which is the key of its records
    saga_id: Uuid,
    /// Read only what was written since a time (2026-01-31T12:00:00Z) or within a duration (15m, 2h)
    #[arg(long, value_name = "TIME|DURATION", value_parser = StartTime::parse)]
    since: Option<StartTime>,
    /// Read only the partition that murmur2 assigns to the saga's key. Faster on long topics; misses records written with
    /// another partitioner or under another spelling of the key
    #[arg(long, conflicts_with = "all_partitions")]
    own_partition: bool,
    /// Read all partitions (the default)
    #[arg(long)]
    all_partitions: bool,
    /// Show the data of each record, which may be personal
    #[arg(long)]
    data: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// The address of a trace
    #[arg(long, env = "SAGA_TRACE_URL", hide_env_values = true, value_name = "TEMPLATE", default_value = TRACE_URL, value_parser = template)]
    trace_url: String,
    #[command(flatten)]
    kafka: KafkaArgs,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectCommandError {
    #[error(transparent)]
    Settings(#[from] KafkaArgsError),
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl Inspect {
    pub(crate) fn run(self, flow: &Choreography) -> Result<ExitCode, InspectCommandError> {
        let now = Timestamp::now();
        let search = Search {
            saga_id: self.saga_id,
            since: self.since.map(|since| since.resolve(now)),
            own_partition: self.own_partition && !self.all_partitions,
            with_data: self.data,
        };
        let url = |trace_id: &str| self.trace_url.replace(PLACE, trace_id);
        let report = look_up(&self.kafka.config()?, flow, FlowTopics::of(flow, self.kafka.namespace()), search, url)?;
        report.warnings().iter().for_each(|warning| say(warning));
        if self.json {
            print_json(&report)?;
        } else {
            let colour = io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
            let lines = report.lines(now);
            print(&lines.iter().map(|line| line.render(colour, None) + "\n").collect::<String>())?;
        }
        Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::from(UNEXPECTED_STATE) })
    }
}

fn template(text: &str) -> Result<String, String> {
    match text {
        // An empty variable counts as unset.
        "" => Ok(TRACE_URL.to_owned()),
        // The address is printed with every saga.
        text if text.contains('@') => Err("it must not hold credentials (write @ as %40)".to_owned()),
        text if text.contains(PLACE) => Ok(text.to_owned()),
        _ => Err(format!("expected an address with {PLACE} in it, such as {TRACE_URL}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    #[test]
    fn an_id_in_any_spelling_is_that_of_the_same_saga() {
        let id = Uuid::from_u128(0x01a1_fc38_2552_74dd_874d_d653_b163_55f5);
        let text = id.to_string();
        for spelled in [text.clone(), text.to_uppercase(), text.replace('-', ""), format!("{{{text}}}")] {
            let matches = Inspect::augment_args(Command::new("inspect")).get_matches_from(["inspect", &spelled]);
            assert_eq!(Inspect::from_arg_matches(&matches).unwrap().saga_id, id, "{spelled}");
        }
    }
}
