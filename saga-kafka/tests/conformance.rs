//! What the transport promises, on the embedded broker and on a real Kafka.

mod support;

use saga_core::transport::Producer as _;
use support::{Fixture, record};

/// Runs each of the tests on both kinds of broker.
macro_rules! conformance {
    ($($(#[$attribute:meta])* $name:ident,)+) => {
        mod embedded {
            $($(#[$attribute])* #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Fixture::embedded()).await; })+
        }
        mod live {
            $($(#[$attribute])* #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(fixture) = super::Fixture::live() else { return };
                super::$name(fixture).await;
            })+
        }
    };
}

conformance! {
    records_of_a_key_are_read_in_the_order_they_were_published,
}

async fn records_of_a_key_are_read_in_the_order_they_were_published(fixture: Fixture) {
    let topic = fixture.topic(6).await;
    let producer = fixture.producer();
    let records: Vec<_> = (0..2_000).map(|i| record(&topic, &format!("key {}", i % 7), format!("{i}"))).collect();
    let outcomes = producer.publish(records).await;
    assert_eq!(outcomes, vec![Ok(()); 2_000]);
    let mut reader = fixture.consumer(&support::unique("group"), &[&topic]);
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
