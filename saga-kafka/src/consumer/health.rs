//! The consumer's health, judged from statistics and errors.
//!
//! An error by itself proves little: librdkafka reports each failed attempt, even if another address or broker makes up
//! for it, and reports no recovery. So the statistics decide, and errors explain.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use rdkafka::types::RDKafkaErrorCode as Code;
use saga_core::{record::TopicPartition, transport::Signal};

use super::{
    errors::{ErrorKind, kind_of},
    stats::{Broker, Group, Partition, Stats},
};

/// Shorter interruptions of a connection are not reported.
const PATIENCE: Duration = Duration::from_millis(1500);
/// A broker that owes an answer and sends nothing for this long counts as hanging.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the start positions of assigned partitions may be unknown before it is reported.
const BEGIN_PATIENCE: Duration = Duration::from_secs(5);
/// How often the broker is asked about a failing topic.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// How long an open transaction may block a partition before it is reported; most end within a second.
const TRANSACTION_PATIENCE: Duration = Duration::from_secs(10);
/// Unreadable records are fetched many times a second. After this time without an error they are gone.
const UNREADABLE_FOR: Duration = Duration::from_secs(5);
/// How often an unknown error is logged; every one is counted.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// A log that an open transaction blocks: at which offset, since when, and how many records.
struct HeldBack {
    at: i64,
    since: Instant,
    records: i64,
}

#[derive(Default)]
pub(super) struct Health {
    /// librdkafka's last reason for a broken connection.
    reason: Option<String>,
    broken_since: Option<Instant>,
    broker: Option<String>,
    /// One of the topics fails; which one is not known yet.
    suspect: bool,
    /// The failing topics: name and reason.
    topics: BTreeMap<String, String>,
    group: Option<String>,
    /// Since when some partitions cannot be started.
    unbegun_since: Option<Instant>,
    unbegun: Option<String>,
    /// The unreadable records, and the time of the last error about them.
    unreadable: Option<(String, Instant)>,
    held_back: BTreeMap<TopicPartition, HeldBack>,
    held_back_told: Option<String>,
    probed: Option<Instant>,
    warned: HashMap<String, Instant>,
    reported: Option<String>,
}

impl Health {
    /// Takes an error event with librdkafka's text for people.
    pub(super) fn error(&mut self, code: Code, reason: &str, now: Instant) -> Option<Signal> {
        match kind_of(code) {
            // "All brokers are down" says less than the reason for one of them.
            ErrorKind::Connection if code == Code::AllBrokersDown && self.reason.is_some() => {}
            ErrorKind::Connection => self.reason = Some(without_times(reason)),
            ErrorKind::Topic => self.suspect = true,
            ErrorKind::Group => {
                self.group = Some(match code {
                    Code::InconsistentGroupProtocol => {
                        "the group's members have another partition.assignment.strategy \
                        than this one, and it cannot join them"
                            .to_owned()
                    }
                    _ => format!("not authorised to join the consumer group ({reason})"),
                });
            }
            ErrorKind::Unreadable => {
                let first = self.unreadable.take().map(|(first, _)| first);
                let text = || format!("records cannot be read: {} ({code:?})", without_times(reason));
                self.unreadable = Some((first.unwrap_or_else(text), now));
            }
            ErrorKind::Transient => tracing::debug!(?code, reason, "Kafka consumer error"),
            ErrorKind::Unknown => {
                let name = format!("{code:?}");
                let is_quiet = |warned: &Instant| now.duration_since(*warned) < WARN_EVERY;
                if !self.warned.get(&name).is_some_and(is_quiet) {
                    self.warned.insert(name, now);
                    tracing::warn!(?code, reason, "Kafka: the consumer reports an error");
                }
            }
        }
        self.tell()
    }

    /// Takes a statistics event; they come once a second.
    pub(super) fn tick(
        &mut self,
        stats: &Stats,
        running: &[TopicPartition],
        bootstrap: &str,
        now: Instant,
    ) -> Option<Signal> {
        match self.broken(stats, bootstrap) {
            None => {
                self.broken_since = None;
                self.broker = None;
                self.reason = None;
            }
            Some(trouble) => {
                let since = *self.broken_since.get_or_insert(now);
                // A refused connection is reported at the second event, after about a second and a half.
                if now.duration_since(since) >= PATIENCE || self.reason.is_some() && since != now {
                    self.broker = Some(trouble);
                }
            }
        }
        if stats.cgrp.join_state == "steady" {
            self.group = None;
        }
        let is_over = |(_, said): &mut (String, Instant)| now.duration_since(*said) > UNREADABLE_FOR;
        self.unreadable.take_if(is_over);
        self.look_for_open_transactions(stats, running, now);
        self.tell()
    }

    /// An open transaction blocks its log silently: no record comes, and no error.
    fn look_for_open_transactions(&mut self, stats: &Stats, running: &[TopicPartition], now: Instant) {
        let mut held_back = BTreeMap::new();
        for partition in running {
            let Some((at, records)) = stats.partition(partition).and_then(Partition::held_back) else { continue };
            let before = self.held_back.remove(partition).filter(|before| before.at == at);
            let since = before.map_or(now, |before| before.since);
            held_back.insert(partition.clone(), HeldBack { at, since, records });
        }
        self.held_back = held_back;
        let longest = self.held_back.iter().filter(|(_, held)| now.duration_since(held.since) > TRANSACTION_PATIENCE);
        // Reported once for each partition, without the number of records, which changes.
        self.held_back_told = longest.min_by_key(|(_, held)| held.since).map(|(partition, held)| {
            tracing::debug!(%partition, records = held.records, "Kafka: held back");
            format!("{partition} is blocked at offset {} by an open transaction", held.at)
        });
    }

    fn broken(&self, stats: &Stats, bootstrap: &str) -> Option<String> {
        let Some(reason) = no_connection(stats) else {
            return silent(stats).or_else(|| no_leader(stats)).or_else(|| no_coordinator(&stats.cgrp));
        };
        // librdkafka's text starts with the connection's name: "localhost:9092/bootstrap: Connect to ..."
        Some(match self.reason.as_deref().and_then(|reason| reason.split_once(": ")) {
            Some((connection, why)) if connection.contains('/') => {
                format!("broker {}: {why}", connection.split('/').next().unwrap_or(connection))
            }
            _ => format!("broker {bootstrap}: {}", self.reason.as_deref().unwrap_or(reason)),
        })
    }

    /// The topics that the broker is to be asked about now. librdkafka reports once that a topic is missing, and never
    /// that it is back.
    pub(super) fn due_probes(&mut self, all: &[String], now: Instant) -> Vec<String> {
        let is_early = self.probed.is_some_and(|probed| now.duration_since(probed) < PROBE_EVERY);
        if is_early || self.topics.is_empty() && !self.suspect {
            return Vec::new();
        }
        self.probed = Some(now);
        if self.suspect { all.to_vec() } else { self.topics.keys().cloned().collect() }
    }

    /// All of [`Health::due_probes`] were answered.
    pub(super) fn probed(&mut self) {
        self.suspect = false;
    }

    /// Takes the broker's answer about a topic: no error when it can be read. Also returns whether a failure ended.
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

    /// Takes the result of starting what was assigned. A failure is reported when it lasts.
    pub(super) fn begun(&mut self, begun: Result<(), String>, now: Instant) -> Option<Signal> {
        match begun {
            // The usual case, at every poll.
            Ok(()) if self.unbegun_since.is_none() => return None,
            Ok(()) => (self.unbegun_since, self.unbegun) = (None, None),
            Err(why) => {
                let since = *self.unbegun_since.get_or_insert(now);
                if now.duration_since(since) >= BEGIN_PATIENCE {
                    self.unbegun = Some(format!("where reading begins is not known: {why}"));
                }
            }
        }
        self.tell()
    }

    /// Sets or ends a failure that only the caller knows.
    pub(super) fn group(&mut self, trouble: Option<String>) -> Option<Signal> {
        self.group = trouble;
        self.tell()
    }

    /// The signal for a changed state.
    fn tell(&mut self) -> Option<Signal> {
        let unreadable = self.unreadable.as_ref().map(|(text, _)| text);
        let others = self.broker.iter().chain(&self.group).chain(unreadable).chain(&self.held_back_told);
        // A broker or a topic that is missed explains it.
        let unbegun = self.unbegun.iter().filter(|_| self.broker.is_none() && self.topics.is_empty());
        let troubles: Vec<&str> = others.chain(unbegun).chain(self.topics.values()).map(String::as_str).collect();
        let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
        if trouble == self.reported {
            return None;
        }
        self.reported.clone_from(&trouble);
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

/// The reason without "(after 3ms in state CONNECT, 7 identical error(s) suppressed)", which changes all the time.
fn without_times(reason: &str) -> String {
    reason.split(" (after ").next().unwrap_or(reason).to_owned()
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
    // While the group forms, the coordinator answers only when the slowest member has joined.
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
    // Only partitions that are fetched have a position; -1 stands for an unknown partition number.
    let stuck = stats.topics.iter().find_map(|(topic, partitions)| {
        let stuck = |p: &&Partition| p.partition >= 0 && p.fetching() && p.leader >= 0 && !reachable(p.leader);
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
mod tests;
