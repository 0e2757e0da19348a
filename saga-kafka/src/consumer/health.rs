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
                    // Without "(after 3ms in state CONNECT, 7 identical error(s) suppressed)": it changes all the time.
                    self.reason = Some(reason.split(" (after ").next().unwrap_or(reason).to_owned());
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
    Some(format!("broker {}: no answer for more than {SILENCE:?}", broker.nodename))
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
    (unknown && waited).then(|| "the group's coordinator cannot be reached".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn stats(json: &str) -> Stats {
        serde_json::from_str(json).unwrap()
    }

    fn down() -> Stats {
        stats(
            r#"{"brokers": {"a": {"state": "TRY_CONNECT"}, "GroupCoordinator": {"state": "UP", "source": "logical"}}}"#,
        )
    }

    fn up() -> Stats {
        stats(
            r#"{"brokers": {"a": {"state": "DOWN", "nodeid": 1}, "b": {"state": "UP", "nodeid": 2, "nodename": "b:9"}}}"#,
        )
    }

    fn waiting(signal: Option<Signal>) -> Option<String> {
        match signal {
            Some(Signal::Waiting(why)) => Some(why),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_connection_is_missed_when_it_stays_away_and_its_return_is_told() {
        let (mut health, start) = (Health::default(), Instant::now());
        assert_eq!(waiting(health.tick(&down(), "x:1", start)), None);
        let why = waiting(health.tick(&down(), "x:1", start + 2 * SECOND)).unwrap();
        assert_eq!(why, "broker x:1: no connection");
        assert!(health.tick(&down(), "x:1", start + 3 * SECOND).is_none(), "it is told once");
        assert!(matches!(health.tick(&up(), "x:1", start + 4 * SECOND), Some(Signal::Ready)));
        assert!(health.tick(&up(), "x:1", start + 5 * SECOND).is_none());
    }

    #[test]
    fn an_error_alone_is_no_trouble_and_explains_one() {
        let (mut health, start) = (Health::default(), Instant::now());
        let error = "x:1/bootstrap: Connect to ipv6#[::1]:1 failed: Connection refused (after 0ms in state CONNECT)";
        assert_eq!(waiting(health.error(Code::BrokerTransportFailure, error)), None);
        assert_eq!(waiting(health.error(Code::AllBrokersDown, "1/1 brokers are down")), None);
        assert_eq!(waiting(health.tick(&down(), "x:1", start)), None);
        let why = waiting(health.tick(&down(), "x:1", start + SECOND)).unwrap();
        assert_eq!(why, "broker x:1: Connect to ipv6#[::1]:1 failed: Connection refused");
    }

    #[test]
    fn a_broker_that_owes_an_answer_hangs_unless_the_group_is_joining() {
        let silent = |source: &str, join_state: &str| {
            let stats = stats(&format!(
                r#"{{"brokers": {{"b": {{"state": "UP"}}, "c": {{"state": "UP", "nodename": "c:9", "source": "{source}",
                     "waitresp_cnt": 1, "rxidle": 6000000}}}}, "cgrp": {{"join_state": "{join_state}"}}}}"#
            ));
            let (mut health, start) = (Health::default(), Instant::now());
            waiting(health.tick(&stats, "x:1", start));
            waiting(health.tick(&stats, "x:1", start + 2 * SECOND))
        };
        assert_eq!(silent("learned", "steady").as_deref(), Some("broker c:9: no answer for more than 5s"));
        assert_eq!(silent("logical", "wait-join"), None);
    }

    #[test]
    fn the_leader_of_an_assigned_partition_must_be_connected() {
        let fetching = |leader: i64, fetch_state: &str| {
            let mut stats = up();
            let topic = format!(
                r#"{{"partitions": {{"0": {{"partition": 0, "leader": {leader}, "fetch_state": "{fetch_state}"}}}}}}"#
            );
            stats.topics.insert("t".into(), serde_json::from_str(&topic).unwrap());
            let (mut health, start) = (Health::default(), Instant::now());
            waiting(health.tick(&stats, "x:1", start));
            waiting(health.tick(&stats, "x:1", start + 2 * SECOND))
        };
        assert_eq!(fetching(2, "active"), None);
        assert_eq!(fetching(1, "none"), None);
        assert_eq!(fetching(1, "active").as_deref(), Some("broker 1: no connection, and it leads t/0"));
    }

    #[test]
    fn a_missing_topic_is_asked_for_until_it_is_there() {
        let (mut health, start) = (Health::default(), Instant::now());
        let error = "Subscribed topic not available: t: Broker: Unknown topic or partition";
        let why = waiting(health.error(Code::UnknownTopicOrPartition, error));
        assert_eq!(why.as_deref(), Some("topic t does not exist"));
        assert_eq!(health.due_probes(start), ["t"]);
        assert!(health.due_probes(start + SECOND).is_empty());
        let why = waiting(health.topic("t", Some(Code::TopicAuthorizationFailed)).0);
        assert_eq!(why.as_deref(), Some("not authorised to read topic t"));
        assert!(matches!(health.topic("t", None), (Some(Signal::Ready), true)));
        assert!(health.due_probes(start + 9 * SECOND).is_empty());
    }
}
