//! One saga, looked up in the topics.

mod moment;
mod order;
mod print;
mod progress;
mod story;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use saga_core::{graph::Choreography, record::TopicPartition};
use saga_kafka::{KafkaConfig, KafkaError, ReadError, Reader, partition_of};
use serde::Serialize;
use uuid::Uuid;

use self::{
    progress::ProgressLine,
    story::{Status, Story, TraceOf},
};
use crate::{event::saga_of, flow::FlowTopics, seen::Seen, text::Line};

/// A broker that answered at first, and then says nothing for so long, is away.
const SILENCE: Duration = Duration::from_secs(10);

/// What is looked for, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    pub(crate) saga_id: Uuid,
    pub(crate) since: Option<Timestamp>,
    /// Only where the key's murmur2 says.
    pub(crate) own_partition: bool,
    pub(crate) with_data: bool,
}

/// The saga cannot be told of.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    #[error(transparent)]
    Settings(#[from] KafkaError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("none of the flow's topics is on {0}: have the services ever run there?")]
    NoTopics(String),
    #[error(
        "no record of saga {saga_id} in {} of {topics} on {servers}{}; is the id right, or is the retention of the topics over?",
        if *.own_partition { "its partition" } else { "any partition" },
        .since.map(|at| format!(" since {at}")).unwrap_or_default()
    )]
    NotFound { saga_id: Uuid, topics: String, servers: String, since: Option<Timestamp>, own_partition: bool },
}

/// Where a trace can be looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Trace {
    trace_id: String,
    url: String,
    /// Whether an event says so; otherwise the id is that of the saga, by which the trace of an event without a context
    /// goes.
    carried: bool,
}

/// What was read.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Reading {
    records: i64,
    partitions: &'static str,
    since: Option<Timestamp>,
    missing_topics: Vec<String>,
}

/// Everything about a saga.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    story: Story,
    #[serde(rename = "trace")]
    traces: Vec<Trace>,
    read: Reading,
}

impl Report {
    fn of(mut story: Story, read: Reading, trace_url: impl Fn(&str) -> String) -> Self {
        let traces = std::mem::take(&mut story.traces).into_iter();
        let traces =
            traces.map(|TraceOf { id, is_carried }| Trace { url: trace_url(&id), trace_id: id, carried: is_carried });
        let traces = traces.collect();
        Self { story, traces, read }
    }

    pub(crate) fn lines(&self, now: Timestamp) -> Vec<Line> {
        print::lines(self, now)
    }

    /// What the reader of the results must know of how they came about.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let (missing, unknown) = (&self.read.missing_topics, &self.story.unknown_events);
        let missing = (!missing.is_empty()).then(|| format!("there is no topic {}", missing.join(", ")));
        let unknown = (!self.is_known()).then(|| {
            let whose = if self.story.status == Status::Unknown {
                "the saga belongs to another flow"
            } else {
                "a participant is newer"
            };
            format!("the flow does not know {}: {whose}, name it with --flow", unknown.join(", "))
        });
        missing.into_iter().chain(unknown).collect()
    }

    /// Whether the saga has no more than one end, and the flow knows all of its events.
    pub(crate) fn is_well(&self) -> bool {
        self.is_known() && self.story.status != Status::Contradictory
    }

    fn is_known(&self) -> bool {
        self.story.unknown_events.is_empty()
    }
}

/// Reads all that the topics hold of the saga, as of now.
pub(crate) fn look_up(
    kafka: &KafkaConfig,
    flow: &Choreography,
    topics: FlowTopics,
    search: Search,
    trace_url: impl Fn(&str) -> String,
) -> Result<Report, InspectError> {
    let Search { saga_id, since, own_partition, with_data } = search;
    let topics = topics.all();
    let mut reader = Reader::of_the_past(kafka)?;
    let (mut places, mut missing_topics) = (Vec::new(), Vec::new());
    for name in &topics {
        let topic: Arc<str> = name.as_str().into();
        match reader.partitions(name)? {
            None => missing_topics.push(name.clone()),
            Some(partitions) => {
                let own = partition_of(saga_id.to_string().as_bytes(), partitions);
                let wanted = (0..partitions).filter(|partition| !own_partition || *partition == own);
                places.extend(wanted.map(|partition| TopicPartition { topic: topic.clone(), partition }));
            }
        }
    }
    let servers = kafka.bootstrap_servers().to_owned();
    if places.is_empty() {
        return Err(InspectError::NoTopics(servers));
    }
    reader.add(&places, since)?;

    let read = if with_data { Seen::with_value } else { Seen::of };
    let mut seen = Vec::new();
    let mut progress = ProgressLine::new();
    while !reader.has_caught_up() {
        let next = reader.next(Duration::from_millis(100), |_, key| saga_of(key) == Some(saga_id))?;
        if next.is_none() && reader.silence() > SILENCE {
            return Err(reader.gone_silent().into());
        }
        seen.extend(next.map(read));
        progress.show(reader.progress());
    }
    drop(progress);
    if seen.is_empty() {
        let topics = topics.join(", ");
        return Err(InspectError::NotFound { saga_id, topics, servers, since, own_partition });
    }
    let (records, _) = reader.progress();
    let partitions = if own_partition { "own" } else { "all" };
    let read = Reading { records, partitions, since, missing_topics };
    Ok(Report::of(story::tell(flow, saga_id, seen), read, trace_url))
}
