//! Dead letters that the broker refuses in their complete form, in memory and virtual time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use futures::{FutureExt, future::BoxFuture};
use saga_core::{
    Outcome, Participant, Step, StepResult,
    dead_letter::header::{OMITTED, REASON, TOPIC},
    handler::Cx,
    record::{Header, OutRecord, Record},
    testing::{MemoryBroker, MemoryProducer, MemoryStore},
    transport::{Producer, PublishError},
};

use self::common::{
    World,
    trip::{Booked, Taken},
};

async fn take(_: &mut Cx<'_, MemoryStore>, trip: Booked) -> StepResult<Taken> {
    Ok(Outcome::Success(Taken { id: trip.id }))
}

/// The largest dead letter that the topic accepts.
type Takes = fn(&OutRecord) -> bool;

#[derive(Clone)]
struct Picky {
    inner: MemoryProducer,
    takes: Takes,
}

impl Producer for Picky {
    fn publish(&self, records: Vec<OutRecord>) -> BoxFuture<'static, Vec<Result<(), PublishError>>> {
        match records.as_slice() {
            [letter] if letter.topic.ends_with(".dlq") && !(self.takes)(letter) => {
                futures::future::ready(vec![Err(PublishError::Refused("as it is".to_owned()))]).boxed()
            }
            _ => self.inner.publish(records),
        }
    }
}

fn size(headers: &[Header]) -> usize {
    headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Vec::len)).sum()
}

/// Dead-letters one record in a topic that accepts only some, with a valid record behind it. Returns the original and
/// its dead letter.
async fn dead_lettered(takes: Takes, spoil: fn(&mut OutRecord)) -> (OutRecord, Record) {
    let producer = |broker: &MemoryBroker| Picky { inner: broker.producer(), takes };
    let mut result = None;
    World::publishing(Participant::named("seat").step(Step::new("take", take)), producer, async |world| {
        let mut original = world.record(&Booked::anew());
        spoil(&mut original);
        world.broker.append(original.clone());
        world.publish(&Booked::anew());
        world.eventually("its partition moves on", async || world.broker.is_caught_up("seat")).await;
        let letters = world.broker.records("seat.dlq");
        assert_eq!(letters.len(), 1);
        result = Some((original, letters[0].clone()));
    })
    .await;
    result.unwrap()
}

fn text<'a>(record: &'a Record, name: &str) -> &'a str {
    let header = record.headers.iter().find(|h| h.is(name)).unwrap_or_else(|| panic!("no {name}"));
    std::str::from_utf8(header.value.as_deref().unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_too_large_is_written_without_its_value() {
    let takes: Takes = |letter| letter.value.as_ref().is_none_or(|value| value.len() < 1000);
    let (original, letter) = dead_lettered(takes, |record| record.value = Some(vec![b'x'; 2000])).await;
    assert_eq!((&letter.key, &letter.value), (&original.key, &None));
    assert!(letter.headers.starts_with(&original.headers));
    assert_eq!((text(&letter, OMITTED), text(&letter, TOPIC)), ("value", "trip.events"));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_refused_for_its_headers_keeps_key_and_value() {
    let takes: Takes = |letter| size(&letter.headers) < 1000;
    let spoil = |record: &mut OutRecord| {
        record.headers.push(Header::text("mine", "x".repeat(2000)));
        record.value = Some(b"{".to_vec());
    };
    let (original, letter) = dead_lettered(takes, spoil).await;
    assert_eq!((&letter.key, &letter.value), (&original.key, &original.value));
    assert!(!letter.headers.iter().any(|h| h.is("mine")));
    assert_eq!((text(&letter, OMITTED), text(&letter, REASON)), ("headers", "undecodable"));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_refused_for_its_key_has_the_position_of_the_original_as_its_key() {
    let long: fn(&mut OutRecord) = |record| record.key = Some(vec![b'k'; 2000]);
    let short: Takes = |letter| letter.key.as_ref().is_none_or(|key| key.len() < 1000);
    // A compacted topic accepts no record without a key.
    let (none, any): (fn(&mut OutRecord), Takes) = (|record| record.key = None, |letter| letter.key.is_some());
    for (spoil, takes, reason) in [(long, short, "key_mismatch"), (none, any, "missing_key")] {
        let (original, letter) = dead_lettered(takes, spoil).await;
        assert_eq!((letter.key.as_deref(), &letter.value), (Some(&b"trip.events/0/0"[..]), &original.value));
        assert!(letter.headers.starts_with(&original.headers));
        assert_eq!((text(&letter, OMITTED), text(&letter, REASON)), ("key", reason));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_without_its_original_parts_names_the_position_of_the_original() {
    let takes: Takes = |letter| {
        let (key, value) = (letter.key.as_ref(), letter.value.as_ref());
        key.map_or(0, Vec::len) + value.map_or(0, Vec::len) + size(&letter.headers) < 1000
    };
    let spoil = |record: &mut OutRecord| {
        record.key = Some(vec![b'k'; 2000]);
        record.value = Some(vec![b'v'; 2000]);
        record.headers.push(Header::text("mine", "x".repeat(2000)));
    };
    let (_, letter) = dead_lettered(takes, spoil).await;
    assert_eq!((letter.key.as_deref(), letter.value.as_ref()), (Some(&b"trip.events/0/0"[..]), None));
    assert_eq!(text(&letter, OMITTED), "value,headers,key");
}
