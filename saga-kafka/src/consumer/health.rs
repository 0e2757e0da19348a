//! Whether all is well with a consumer, judged from statistics and errors.
//!
//! An error by itself proves little: librdkafka reports each failed attempt, also one that another address or another
//! broker makes up for, and reports nothing when it has recovered. So errors only explain; the statistics decide.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rdkafka::types::RDKafkaErrorCode as Code;
use saga_core::transport::Signal;

use super::stats::{Broker, Group, Stats};

/// A connection that is gone for less is no trouble worth telling.
const PATIENCE: Duration = Duration::from_millis(1500);
/// A broker that owes an answer and has sent nothing for this long hangs.
const SILENCE: Duration = Duration::from_secs(5);
/// How often a topic in trouble is asked about.
const PROBE_EVERY: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Health {
    /// The last reason librdkafka gave for a broken connection.
    reason: Option<String>,
    broken_since: Option<Instant>,
    broker: Option<String>,
    /// What is wrong with a topic, by its name.
    topics: BTreeMap<String, String>,
    group: Option<String>,
    probed: Option<Instant>,
    told: Option<String>,
}

impl Health {
    /// An error event, with librdkafka's text for it.
    pub(super) fn error(&mut self, code: Code, reason: &str) -> Option<Signal> {
        match code {
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::SSL => {
                // That all are down says less than why one is.
                if code != Code::AllBrokersDown || self.reason.is_none() {
                    self.reason = Some(reason.to_owned());
                }
            }
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::TopicAuthorizationFailed => {
                // "Subscribed topic not available: NAME: Broker: Unknown topic or partition"
                if let Some(topic) = reason.split(": ").nth(1) {
                    self.topics.insert(topic.to_owned(), topic_trouble(topic, code));
                }
            }
            Code::GroupAuthorizationFailed => {
                self.group = Some(format!("not authorised to join the consumer group ({reason})"));
            }
            _ => tracing::debug!(?code, reason, "Kafka consumer error"),
        }
        self.tell()
    }

    /// To be called with every statistics event, once a second.
    pub(super) fn tick(&mut self, stats: &Stats, bootstrap: &str, now: Instant) -> Option<Signal> {
        match self.broken(stats, bootstrap) {
            None => {
                self.broken_since = None;
                self.broker = None;
                self.reason = None;
            }
            Some(trouble) => {
                let since = *self.broken_since.get_or_insert(now);
                // A refused connection is reported at the second tick, after about a second and a half.
                if now.duration_since(since) >= PATIENCE || self.reason.is_some() && since != now {
                    self.broker = Some(trouble);
                }
            }
        }
        if stats.cgrp.join_state == "steady" {
            self.group = None;
        }
        self.tell()
    }

    fn broken(&self, stats: &Stats, bootstrap: &str) -> Option<String> {
        let Some(reason) = no_connection(stats) else {
            return silent(stats).or_else(|| no_leader(stats)).or_else(|| no_coordinator(&stats.cgrp));
        };
        // librdkafka begins with the connection's name: "localhost:9092/bootstrap: Connect to ..."
        Some(match self.reason.as_deref().and_then(|reason| reason.split_once(": ")) {
            Some((connection, why)) if connection.contains('/') => {
                format!("broker {}: {why}", connection.split('/').next().unwrap_or(connection))
            }
            _ => format!("broker {bootstrap}: {}", self.reason.as_deref().unwrap_or(reason)),
        })
    }

    /// The topics to be asked about now: librdkafka says once that one is missing, and never that it is there.
    pub(super) fn due_probes(&mut self, now: Instant) -> Vec<String> {
        if self.topics.is_empty() || self.probed.is_some_and(|probed| now.duration_since(probed) < PROBE_EVERY) {
            return Vec::new();
        }
        self.probed = Some(now);
        self.topics.keys().cloned().collect()
    }

    /// What asking found out: no error when the topic can be read. True when that is new.
    pub(super) fn topic(&mut self, name: &str, error: Option<Code>) -> (Option<Signal>, bool) {
        let mended = match error {
            None => self.topics.remove(name).is_some(),
            Some(code) => {
                self.topics.insert(name.to_owned(), topic_trouble(name, code));
                false
            }
        };
        (self.tell(), mended)
    }

    /// A trouble that only the caller knows of, or its end.
    pub(super) fn group(&mut self, trouble: Option<String>) -> Option<Signal> {
        self.group = trouble;
        self.tell()
    }

    /// The signal for a change, if there is one.
    fn tell(&mut self) -> Option<Signal> {
        let troubles: Vec<&str> =
            self.broker.iter().chain(&self.group).chain(self.topics.values()).map(String::as_str).collect();
        let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
        if trouble == self.told {
            return None;
        }
        self.told.clone_from(&trouble);
        Some(match trouble {
            Some(trouble) => {
                tracing::warn!("Kafka: {trouble}");
                Signal::Waiting(trouble)
            }
            None => {
                tracing::info!("Kafka: all is well again");
                Signal::Ready
            }
        })
    }
}

fn topic_trouble(topic: &str, code: Code) -> String {
    match code {
        Code::TopicAuthorizationFailed => format!("not authorised to read topic {topic}"),
        Code::UnknownTopicOrPartition | Code::UnknownTopic => format!("topic {topic} does not exist"),
        code => format!("topic {topic}: {code}"),
    }
}

fn no_connection(stats: &Stats) -> Option<&'static str> {
    let up = stats.brokers.values().any(|broker| broker.is_up() && !broker.is_logical());
    (!up).then_some("no connection")
}

fn silent(stats: &Stats) -> Option<String> {
    // While the group is formed, the coordinator answers when the slowest member has joined.
    let joining = stats.cgrp.join_state.starts_with("wait-join") || stats.cgrp.join_state.starts_with("wait-sync");
    let silent = |broker: &&Broker| {
        broker.is_up()
            && broker.waitresp_cnt > 0
            && u128::try_from(broker.rxidle).is_ok_and(|idle| idle > SILENCE.as_micros())
            && !(joining && broker.is_logical())
    };
    let broker = stats.brokers.values().find(silent)?;
    Some(format!("broker {}: no answer for {} s", broker.nodename, broker.rxidle / 1_000_000))
}

fn no_leader(stats: &Stats) -> Option<String> {
    let reachable = |leader: i64| stats.brokers.values().any(|b| b.nodeid == leader && !b.is_logical() && b.is_up());
    // Only partitions that we fetch have a position; -1 stands for a partition's number that is not known yet.
    let stuck = stats.topics.iter().find_map(|(topic, partitions)| {
        let stuck =
            |p: &&super::stats::Partition| p.partition >= 0 && p.fetching() && p.leader >= 0 && !reachable(p.leader);
        partitions.partitions.values().find(stuck).map(|p| (topic, p.partition, p.leader))
    })?;
    let (topic, partition, leader) = stuck;
    Some(format!("broker {leader}: no connection, and it leads {topic}/{partition}"))
}

fn no_coordinator(group: &Group) -> Option<String> {
    let waited = group.stateage > i64::try_from(SILENCE.as_millis()).unwrap_or(i64::MAX);
    let unknown = !group.state.is_empty() && group.state != "up" && group.state != "term";
    (unknown && waited).then(|| format!("the group's coordinator cannot be reached ({})", group.state))
}
