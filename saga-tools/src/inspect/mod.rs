//! Looks up one saga in the topics.

mod causal_order;
mod history;
mod read_progress;
#[cfg(test)]
mod tests;
mod text;
mod timeline;
mod timeline_entry;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use saga_core::{graph::Choreography, record::TopicPartition};
use saga_kafka::{KafkaConfig, KafkaError, ReadError, Reader, partition_of};
use serde::Serialize;
use uuid::Uuid;

use self::{
    history::{SagaHistory, Status, TraceReference},
    read_progress::ReadProgress,
};
use crate::{event::saga_of, flow::FlowTopics, observed_record::ObservedRecord, text::Line};

/// A broker that sends nothing for this long is considered unreachable.
const SILENCE: Duration = Duration::from_secs(10);

/// The search: the saga and what to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    pub(crate) saga_id: Uuid,
    pub(crate) since: Option<Timestamp>,
    /// Whether to read only the partition that murmur2 assigns to the key.
    pub(crate) own_partition: bool,
    pub(crate) with_data: bool,
}

/// Why a saga cannot be shown.
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

/// A trace and its address.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Trace {
    trace_id: String,
    url: String,
    /// Whether an event carries this id. If not, it is the saga's id, which the trace of an event without a context has.
    carried: bool,
}

/// The extent of the search.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Reading {
    records: i64,
    partitions: &'static str,
    since: Option<Timestamp>,
    missing_topics: Vec<String>,
}

/// The complete result for one saga.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    history: SagaHistory,
    #[serde(rename = "trace")]
    traces: Vec<Trace>,
    read: Reading,
}

impl Report {
    fn of(mut history: SagaHistory, read: Reading, trace_url: impl Fn(&str) -> String) -> Self {
        let traces = std::mem::take(&mut history.traces).into_iter();
        let traces = traces.map(|TraceReference { id, is_carried }| Trace {
            url: trace_url(&id),
            trace_id: id,
            carried: is_carried,
        });
        let traces = traces.collect();
        Self { history, traces, read }
    }

    pub(crate) fn lines(&self, now: Timestamp) -> Vec<Line> {
        text::lines(self, now)
    }

    /// Limits of the result that the user must know.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let (missing, unknown) = (&self.read.missing_topics, &self.history.unknown_events);
        let missing = (!missing.is_empty()).then(|| format!("there is no topic {}", missing.join(", ")));
        let unknown = (!self.is_known()).then(|| {
            let whose = if self.history.status == Status::Unknown {
                "the saga belongs to another flow"
            } else {
                "a participant is newer"
            };
            format!("the flow does not know {}: {whose}, name it with --flow", unknown.join(", "))
        });
        missing.into_iter().chain(unknown).collect()
    }

    /// Whether the flow knows all events, no compensation has failed for good, and the saga has at most one end.
    pub(crate) fn is_well(&self) -> bool {
        let failed = !self.history.failed_compensations.is_empty() || self.history.status == Status::PartlyCompensated;
        self.is_known() && !failed && self.history.status != Status::Contradictory
    }

    fn is_known(&self) -> bool {
        self.history.unknown_events.is_empty()
    }
}

/// Reads all records of the saga up to the topics' current end.
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
    let (mut to_read, mut missing_topics) = (Vec::new(), Vec::new());
    for name in &topics {
        let topic: Arc<str> = name.as_str().into();
        match reader.partitions(name)? {
            None => missing_topics.push(name.clone()),
            Some(partitions) => {
                let own = partition_of(saga_id.to_string().as_bytes(), partitions);
                let wanted = (0..partitions).filter(|partition| !own_partition || *partition == own);
                to_read.extend(wanted.map(|partition| TopicPartition { topic: topic.clone(), partition }));
            }
        }
    }
    let servers = kafka.bootstrap_servers().to_owned();
    if to_read.is_empty() {
        return Err(InspectError::NoTopics(servers));
    }
    reader.add(&to_read, since)?;

    let read = if with_data { ObservedRecord::with_value } else { ObservedRecord::of };
    let mut observed = Vec::new();
    let mut progress = ReadProgress::new();
    while !reader.has_caught_up() {
        let next = reader.next(Duration::from_millis(100), |_, key| saga_of(key) == Some(saga_id))?;
        if next.is_none() && reader.silence() > SILENCE {
            return Err(reader.gone_silent().into());
        }
        observed.extend(next.map(read));
        progress.show(reader.progress());
    }
    drop(progress);
    if observed.is_empty() {
        let topics = topics.join(", ");
        return Err(InspectError::NotFound { saga_id, topics, servers, since, own_partition });
    }
    let (records, _) = reader.progress();
    let partitions = if own_partition { "own" } else { "all" };
    let read = Reading { records, partitions, since, missing_topics };
    Ok(Report::of(history::history_of(flow, saga_id, observed), read, trace_url))
}
