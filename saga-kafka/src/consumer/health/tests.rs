//! What is told of a consumer's health, and when it is over.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn stats(json: &str) -> Stats {
    serde_json::from_str(json).unwrap()
}

fn down() -> Stats {
    stats(r#"{"brokers": {"a": {"state": "TRY_CONNECT"}, "GroupCoordinator": {"state": "UP", "source": "logical"}}}"#)
}

fn up() -> Stats {
    stats(r#"{"brokers": {"a": {"state": "DOWN", "nodeid": 1}, "b": {"state": "UP", "nodeid": 2, "nodename": "b:9"}}}"#)
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
    assert_eq!(waiting(health.tick(&down(), &[], "x:1", start)), None);
    let why = waiting(health.tick(&down(), &[], "x:1", start + 2 * SECOND)).unwrap();
    assert_eq!(why, "broker x:1: no connection");
    assert!(health.tick(&down(), &[], "x:1", start + 3 * SECOND).is_none(), "it is told once");
    assert!(matches!(health.tick(&up(), &[], "x:1", start + 4 * SECOND), Some(Signal::Ready)));
    assert!(health.tick(&up(), &[], "x:1", start + 5 * SECOND).is_none());
}

#[test]
fn an_error_alone_is_no_trouble_and_explains_one() {
    let (mut health, start) = (Health::default(), Instant::now());
    let error = "x:1/bootstrap: Connect to ipv6#[::1]:1 failed: Connection refused (after 0ms in state CONNECT)";
    assert_eq!(waiting(health.error(Code::BrokerTransportFailure, error, start)), None);
    assert_eq!(waiting(health.error(Code::AllBrokersDown, "1/1 brokers are down", start)), None);
    assert_eq!(waiting(health.tick(&down(), &[], "x:1", start)), None);
    let why = waiting(health.tick(&down(), &[], "x:1", start + SECOND)).unwrap();
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
        waiting(health.tick(&stats, &[], "x:1", start));
        waiting(health.tick(&stats, &[], "x:1", start + 2 * SECOND))
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
        waiting(health.tick(&stats, &[], "x:1", start));
        waiting(health.tick(&stats, &[], "x:1", start + 2 * SECOND))
    };
    assert_eq!(fetching(2, "active"), None);
    assert_eq!(fetching(1, "none"), None);
    assert_eq!(fetching(1, "active").as_deref(), Some("broker 1: no connection, and it leads t/0"));
}

#[test]
fn a_missing_topic_is_asked_for_until_it_is_there() {
    let (mut health, start, all) = (Health::default(), Instant::now(), ["t".to_owned(), "u".to_owned()]);
    assert!(health.due_probes(&all, start).is_empty());
    // librdkafka words it in several ways, and one of them begins with "Topic".
    assert!(health.error(Code::UnknownTopicOrPartition, "Topic t: gone", start).is_none());
    assert_eq!(health.due_probes(&all, start), all, "which one it is, nobody knows yet");
    assert!(health.topic("u", None).0.is_none());
    let why = waiting(health.topic("t", Some(Code::UnknownTopicOrPartition)).0);
    assert_eq!(why.as_deref(), Some("topic t does not exist"));
    health.probed();
    assert!(health.due_probes(&all, start + SECOND).is_empty());
    assert_eq!(health.due_probes(&all, start + 3 * SECOND), ["t"]);
    let why = waiting(health.topic("t", Some(Code::TopicAuthorizationFailed)).0);
    assert_eq!(why.as_deref(), Some("not authorised to read topic t"));
    assert!(matches!(health.topic("t", None), (Some(Signal::Ready), true)));
    assert!(health.due_probes(&all, start + 9 * SECOND).is_empty());
}

#[test]
fn records_that_cannot_be_read_are_told_for_as_long_as_they_are_met() {
    let (mut health, start) = (Health::default(), Instant::now());
    let signal = health.error(Code::BadCompression, "t [0]: codec 0x5", start);
    let why = "records cannot be read: t [0]: codec 0x5 (BadCompression)";
    assert_eq!(waiting(signal).as_deref(), Some(why));
    let again = health.error(Code::BadCompression, "t [0]: codec 0x5", start + 4 * SECOND);
    assert!(again.is_none(), "it is told once");
    assert!(health.tick(&up(), &[], "x:1", start + 8 * SECOND).is_none());
    assert!(matches!(health.tick(&up(), &[], "x:1", start + 10 * SECOND), Some(Signal::Ready)));
}

#[test]
fn an_error_that_nobody_thought_of_is_no_trouble_by_itself() {
    let mut health = Health::default();
    assert_eq!(kind_of(Code::ClusterAuthorizationFailed), ErrorKind::Unknown);
    assert!(health.error(Code::ClusterAuthorizationFailed, "?", Instant::now()).is_none());
    assert_eq!(kind_of(Code::NotLeaderForPartition), ErrorKind::Transient, "the client looks for the new leader");
}

#[test]
fn a_group_with_another_strategy_is_told_until_it_is_joined() {
    let (mut health, start) = (Health::default(), Instant::now());
    let signal = health.error(Code::InconsistentGroupProtocol, "JoinGroup failed", start);
    assert!(waiting(signal).unwrap().contains("partition.assignment.strategy"));
    let joined = Stats { cgrp: Group { join_state: "steady".into(), ..Group::default() }, ..up() };
    assert!(matches!(health.tick(&joined, &[], "x:1", start + SECOND), Some(Signal::Ready)));
}

#[test]
fn an_open_transaction_is_told_when_it_lasts_and_a_paused_partition_says_nothing() {
    let held_at = |offset: i64| {
        let mut stats = up();
        let partition = format!(
            r#"{{"partitions": {{"0": {{"partition": 0, "next_offset": {offset}, "ls_offset": {offset}, "hi_offset": 9}}}}}}"#
        );
        stats.topics.insert("t".into(), serde_json::from_str(&partition).unwrap());
        stats
    };
    let running = [TopicPartition { topic: "t".into(), partition: 0 }];
    let (mut health, start) = (Health::default(), Instant::now());
    let mut tick = |offset, running: &[TopicPartition], seconds| {
        health.tick(&held_at(offset), running, "x:1", start + seconds * SECOND)
    };
    assert!(tick(4, &running, 0).is_none() && tick(5, &running, 9).is_none(), "it moved");
    assert!(tick(5, &running, 12).is_none());
    let why = waiting(tick(5, &running, 20));
    assert_eq!(why.as_deref(), Some("t/0 is blocked at offset 5 by an open transaction"));
    assert!(matches!(tick(9, &running, 21), Some(Signal::Ready)));
    assert!(tick(5, &[], 22).is_none() && tick(5, &[], 40).is_none());
}

#[test]
fn partitions_that_cannot_be_started_are_told_when_it_lasts() {
    let (mut health, start) = (Health::default(), Instant::now());
    let fails = || Err("no answer".to_owned());
    assert_eq!(waiting(health.begun(fails(), start)), None);
    assert_eq!(waiting(health.begun(fails(), start + 4 * SECOND)), None);
    assert_eq!(waiting(health.begun(Ok(()), start + 5 * SECOND)), None);
    assert_eq!(waiting(health.begun(fails(), start + 6 * SECOND)), None, "it began anew");
    let why = waiting(health.begun(fails(), start + 12 * SECOND)).unwrap();
    assert_eq!(why, "where reading begins is not known: no answer");
    assert!(matches!(health.begun(Ok(()), start + 13 * SECOND), Some(Signal::Ready)));
}
