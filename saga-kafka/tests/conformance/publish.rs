//! Publishing: order, acknowledgement, bytes, partitions, limits.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use saga_core::{
    Event, envelope,
    record::{Header, OutRecord},
    transport::{Producer as _, PublishError},
};
use saga_kafka::{KafkaProducer, Publisher, PublisherError, TopicSpec};
use uuid::Uuid;

use crate::support::{Fixture, record, unique};

pub(crate) async fn records_of_a_key_are_read_in_the_order_they_were_published(fixture: Fixture) {
    let topic = fixture.topic(6).await;
    let records: Vec<_> = (0..2_000).map(|i| record(&topic, &format!("key {}", i % 7), format!("{i}"))).collect();
    assert_eq!(fixture.producer().publish(records).await, vec![Ok(()); 2_000]);
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    reader.read(2_000).await;
    for key in 0..7 {
        let key = format!("key {key}").into_bytes();
        let of_key = reader.records.iter().filter(|r| r.key.as_ref() == Some(&key));
        let values: Vec<u32> =
            of_key.map(|r| String::from_utf8(r.value.clone().unwrap()).unwrap().parse().unwrap()).collect();
        assert!(values.len() > 200 && values.is_sorted());
    }
    reader.close().await;
}

pub(crate) async fn calls_that_nobody_waited_for_keep_their_order(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    let producer = fixture.producer();
    for i in 0..200 {
        drop(producer.publish(vec![record(&topic, "key", format!("{i}"))]));
    }
    assert_eq!(producer.publish(vec![record(&topic, "key", "200")]).await, [Ok(())]);
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    reader.read(201).await;
    assert_eq!(reader.values(), (0..=200).map(|i| i.to_string()).collect::<Vec<_>>());
    reader.close().await;
}

pub(crate) async fn keys_values_and_headers_come_back_byte_for_byte(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    let header = |name: &'static [u8], value: Option<&[u8]>| Header {
        name: Cow::Borrowed(name),
        value: value.map(<[u8]>::to_vec),
    };
    let headers = vec![
        header(b"twice", Some(b"first")),
        header(b"null", None),
        header(b"empty", Some(b"")),
        header(b"twice", Some(b"second")),
        header(b"\xff\xfe not UTF-8", Some(b"\x00\x9f\x92\x96")),
        header(b"", Some(b"no name")),
    ];
    let sent: Vec<OutRecord> = [
        (Some(b"key".to_vec()), Some(b"\x00\xff".to_vec()), headers),
        (None, None, vec![]),
        (Some(vec![]), Some(vec![]), vec![]),
        (Some(vec![0xff, 0]), None, vec![header(b"alone", None)]),
    ]
    .into_iter()
    .map(|(key, value, headers)| OutRecord { topic: topic.clone().into(), key, value, headers })
    .collect();
    assert_eq!(fixture.producer().publish(sent.clone()).await, vec![Ok(()); 4]);
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    let read: Vec<_> = reader
        .read(4)
        .await
        .iter()
        .map(|r| OutRecord {
            topic: r.topic.to_string().into(),
            key: r.key.clone(),
            value: r.value.clone(),
            headers: r.headers.clone(),
        })
        .collect();
    assert_eq!(read, sent);
    reader.close().await;
}

/// The hashes are those of org.apache.kafka.common.utils.UtilsTest; Java takes them modulo the partitions, unsigned.
pub(crate) async fn the_partition_follows_from_the_key_as_in_java(fixture: Fixture) {
    let hashes: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    let topic = fixture.topic(97).await;
    let records = hashes.iter().map(|(key, _)| record(&topic, key, *key)).collect();
    assert_eq!(fixture.producer().publish(records).await, vec![Ok(()); 6]);
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    for read in reader.read(6).await {
        let (_, hash) = hashes.iter().find(|(key, _)| Some(key.as_bytes()) == read.key.as_deref()).unwrap();
        assert_eq!(read.partition, (hash & 0x7fff_ffff) % 97);
    }
    reader.close().await;
}

pub(crate) async fn a_value_of_900_kilobytes_passes(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    let value: Vec<u8> = (0..900_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let records = vec![record(&topic, "k", "before"), record(&topic, "k", value.clone()), record(&topic, "k", "after")];
    assert_eq!(fixture.producer().publish(records).await, vec![Ok(()); 3]);
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    assert_eq!(reader.read(3).await[1].value.as_ref(), Some(&value));
    reader.close().await;
}

pub(crate) async fn records_in_any_codec_are_read(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for codec in codecs {
        let config = fixture.config.clone().with_property("compression.type", codec).unwrap();
        let records = (0..10).map(|_| record(&topic, "k", codec.repeat(100))).collect();
        let published = saga_kafka::KafkaProducer::new(&config).unwrap().publish(records).await;
        assert_eq!(published, vec![Ok(()); 10], "{codec}");
    }
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    reader.read(50).await;
    assert_eq!(reader.values(), codecs.map(|codec| vec![codec.repeat(100); 10]).concat());
    reader.close().await;
}

pub(crate) async fn what_can_never_be_written_is_refused_and_nothing_else(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    let records = vec![
        record(&topic, "k", "good"),
        record(&topic, "k", vec![0; 3 << 20]),
        record("a name with\0NUL", "k", "v"),
        record(&topic, "k", "good, too"),
    ];
    let outcomes = fixture.producer().publish(records).await;
    assert_eq!((&outcomes[0], &outcomes[3]), (&Ok(()), &Ok(())), "{outcomes:?}");
    assert!(matches!(outcomes[1], Err(PublishError::Refused(_))), "{outcomes:?}");
    assert!(matches!(outcomes[2], Err(PublishError::Refused(_))), "{outcomes:?}");
}

pub(crate) async fn a_record_too_large_for_its_topic_is_refused(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    let records = vec![record(&topic, "k", "1"), record(&topic, "k", vec![7; 1_500_000]), record(&topic, "k", "2")];
    let outcomes = fixture.producer().publish(records).await;
    assert!(matches!(&outcomes[..], [Ok(()), Err(PublishError::Refused(_)), Ok(())]), "{outcomes:?}");
}

/// To the topic, our clock is always behind: as a clock that is hours off is to any topic.
pub(crate) async fn a_topic_that_refuses_our_clock_is_written_to(fixture: Fixture) {
    let topic = unique("topic");
    let config = vec![("message.timestamp.before.max.ms".to_owned(), "0".to_owned())];
    fixture.ensure(&TopicSpec { config, ..TopicSpec::events(&topic, 1, None) }).await;
    let producer = fixture.producer();
    let publish = || async { producer.publish((0..50).map(|_| record(&topic, "k", "v")).collect()).await };
    let (started, mut refused) = (Instant::now(), 0);
    // Within the same millisecond it is taken.
    while refused == 0 {
        assert!(started.elapsed() < Duration::from_secs(30));
        refused = publish().await.iter().filter(|outcome| outcome.is_err()).count();
    }
    for _ in 0..5 {
        assert_eq!(publish().await, vec![Ok(()); 50]);
    }
}

pub(crate) async fn a_full_queue_refuses_the_record_and_all_that_follow(fixture: Fixture) {
    let topic = fixture.topic(1).await;
    let config = fixture.config.clone().with_property("queue.buffering.max.messages", "10").unwrap();
    let producer = KafkaProducer::new(&config).unwrap();
    assert_eq!(producer.room(), 10);
    let published = producer.publish((0..30).map(|i| record(&topic, "k", format!("{i}"))).collect());
    let outcomes = tokio::time::timeout(Duration::from_secs(30), published).await.unwrap();
    let sent = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
    assert!((10..30).contains(&sent), "{outcomes:?}");
    assert!(outcomes[sent..].iter().all(|outcome| *outcome == Err(PublishError::Full)), "{outcomes:?}");
    // The acknowledged ones have left the queue.
    assert_eq!(producer.room(), 10);
    assert_eq!(producer.publish(vec![record(&topic, "k", "again")]).await, [Ok(())]);
}

pub(crate) async fn flushing_waits_for_the_acknowledgements(fixture: Fixture) {
    let topic = fixture.topic(3).await;
    let producer = fixture.producer();
    drop(producer.publish((0..500).map(|i| record(&topic, &format!("{i}"), "v")).collect()));
    assert!(producer.flush(Duration::from_secs(30)).await);
    assert_eq!(producer.in_flight(), 0);
    let mut reader = fixture.consumer(&unique("group"), &[&topic]);
    reader.read(500).await;
    reader.close().await;
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, Event)]
#[event(
    name = "parcel.weighed",
    version = 2,
    topic = "test.parcel.events",
    saga = "parcel_id",
    validate = "has_weight"
)]
struct ParcelWeighed {
    parcel_id: Uuid,
    grams: i64,
}

fn has_weight(event: &ParcelWeighed) -> Result<(), String> {
    if event.grams > 0 { Ok(()) } else { Err("grams must be positive".into()) }
}

pub(crate) async fn a_typed_event_is_published_as_a_cloud_event(fixture: Fixture) {
    // The topic's name is the event's, so all tests that use the broker share it.
    fixture.shared_topic(ParcelWeighed::TOPIC).await;
    let publisher = Publisher::new(&fixture.config, "scales").unwrap();
    let events: Vec<ParcelWeighed> = (1..=3).map(|grams| ParcelWeighed { parcel_id: Uuid::now_v7(), grams }).collect();
    let ids: Vec<Uuid> = publisher.publish_all(&events).await.into_iter().map(Result::unwrap).collect();
    let mut reader = fixture.consumer(&unique("group"), &[ParcelWeighed::TOPIC]);
    let ours = |r: &&saga_core::record::Record| {
        events.iter().position(|e| r.key.as_deref() == Some(e.parcel_id.to_string().as_bytes()))
    };
    reader.until("our three events", |reader| reader.records.iter().filter(|r| ours(r).is_some()).count() == 3).await;
    for record in &reader.records {
        let Some(index) = ours(&record) else { continue };
        let (read, data) = envelope::open(record).unwrap().envelope().unwrap();
        assert_eq!(read.event_id, ids[index].to_string());
        assert_eq!((read.event_type.as_str(), read.version), ("parcel.weighed", 2));
        assert_eq!(serde_json::from_slice::<ParcelWeighed>(&data).unwrap().grams, events[index].grams);
    }
    reader.close().await;
}

pub(crate) async fn an_invalid_event_is_not_published(fixture: Fixture) {
    let publisher = Publisher::new(&fixture.config, "scales").unwrap();
    let event = ParcelWeighed { parcel_id: Uuid::now_v7(), grams: 0 };
    assert_eq!(publisher.publish(&event).await, Err(PublisherError::Invalid("grams must be positive".into())));
}

pub(crate) async fn a_record_for_a_missing_topic_is_not_acknowledged(fixture: Fixture) {
    let missing = unique("missing");
    let published = fixture.producer().publish(vec![record(&missing, "k", "v")]);
    let outcomes = tokio::time::timeout(Duration::from_secs(30), published).await.unwrap();
    assert!(matches!(&outcomes[..], [Err(PublishError::Unacknowledged(_))]), "{outcomes:?}");
}
