//! `saga inspect`: everything that Kafka knows about one saga.

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
    since::Since,
};

const PLACE: &str = "{trace_id}";
/// Jaeger, where its container usually listens.
const TRACE_URL: &str = "http://127.0.0.1:16686/trace/{trace_id}";

const EXAMPLES: &str = "\
Examples:
  saga inspect 0197fd0c-92cb-7e5b-8a4e-51a0e1a3a001
  saga inspect 0197fd0c-92cb-7e5b-8a4e-51a0e1a3a001 --since 2h --own-partition
  saga inspect 0197fd0c-92cb-7e5b-8a4e-51a0e1a3a001 --json | jq -r .status

JSON: `status` is completed, undone (cancelled), unfinished, contradictory or unknown; `expected` says whose turn it is and
since when, `timeline` what happened, in order (`what`: event, duplicate, dead_letter or unreadable), `trace` where to
look on (`carried` is false where no event says so: events without a context are traced under the saga's id, if at all).
Fields may be added; those that are there stay. Times are RFC 3339, UTC.

`unknown_events` lists the types that the flow does not know. A saga with such events, and without a start that the flow
knows, belongs to another flow: its `status` is unknown, and nothing is said to be expected of it.

Exits with 0 when the saga was found, 1 when it was not or could not be read, 2 when the command line is wrong, 3 when it
was found, and has ended in two ways or has events that the flow does not know: name its flow with --flow.";

/// The saga is there, and something is wrong with it.
const WRONG: u8 = 3;

/// Show one saga: all its events and dead letters, what made each, and what is expected next
///
/// Reads the topics of the flow and their dead letters up to where they end now. Joins no consumer group, commits nothing
/// and creates nothing. The data of the events is not shown, except for the reason of a refusal.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Inspect {
    /// The saga's id, which is the key of its records; in any spelling of a UUID
    saga_id: Uuid,
    /// Only what was written since a time (2026-01-31T12:00:00Z), or in the last while (15m, 2h)
    #[arg(long, value_name = "TIME|DURATION", value_parser = Since::parse)]
    since: Option<Since>,
    /// Read only the partition of the saga's key, as murmur2 has it: faster on long topics, and blind to what a producer
    /// with another partitioner, or under a key in another spelling, wrote
    #[arg(long, conflicts_with = "all_partitions")]
    own_partition: bool,
    /// Read all partitions, which is what happens unless --own-partition is given
    #[arg(long)]
    all_partitions: bool,
    /// Show the data of each record too: it may be personal
    #[arg(long)]
    data: bool,
    /// Print one JSON document instead
    #[arg(long)]
    json: bool,
    /// Where a trace can be looked at
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
            since: self.since.map(|since| since.before(now)),
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
        Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::from(WRONG) })
    }
}

fn template(text: &str) -> Result<String, String> {
    match text {
        // A variable that is set to nothing counts as not set.
        "" => Ok(TRACE_URL.to_owned()),
        // It is shown with every saga.
        text if text.contains('@') => Err("it must hold no credentials (elsewhere, @ is %40)".to_owned()),
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
