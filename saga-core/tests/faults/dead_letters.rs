//! Records that can never be handled.

use super::*;

#[tokio::test(start_paused = true)]
async fn poison_of_every_kind_is_dead_lettered_with_its_bytes_and_the_partition_moves_on() {
    local(async || {
        let world = World::new(1);
        let fine = record(&booked("fine"), Uuid::now_v7(), world.clock);
        let with = |change: &dyn Fn(&mut OutRecord)| {
            let mut record = fine.clone();
            change(&mut record);
            record
        };
        let header_set = |record: &mut OutRecord, name: &'static str, value: &str| {
            record.headers.retain(|h| !h.is(name));
            record.headers.push(Header::text(name, value));
        };
        let cases: Vec<(Reason, OutRecord)> = vec![
            (Reason::MissingType, with(&|r| r.headers.retain(|h| !h.is(header::TYPE)))),
            (Reason::MissingType, OutRecord { headers: vec![], value: Some(vec![0xff, 0, 1]), ..fine.clone() }),
            (Reason::MissingKey, with(&|r| r.key = None)),
            (Reason::MissingKey, with(&|r| r.key = Some(vec![]))),
            (Reason::KeyMismatch, with(&|r| r.key = Some(Uuid::now_v7().to_string().into_bytes()))),
            (Reason::KeyMismatch, with(&|r| r.key = Some(b"not a saga".to_vec()))),
            (Reason::KeyMismatch, with(&|r| r.key = Some(vec![0xff, 0xfe]))),
            (Reason::Undecodable, with(&|r| r.value = Some(b"{".to_vec()))),
            (Reason::Undecodable, with(&|r| r.value = Some(b"{\"id\": 7}".to_vec()))),
            (Reason::Undecodable, with(&|r| r.value = Some("[".repeat(10_000).into_bytes()))),
            (Reason::Undecodable, with(&|r| r.value = None)),
            (Reason::Undecodable, with(&|r| r.headers.push(Header { name: vec![0xff].into(), value: None }))),
            (Reason::Invalid, with(&|r| r.headers.push(Header::text(header::ID, "twice")))),
            (Reason::Invalid, with(&|r| r.headers.push(Header::text(header::TYPE, "trip.booked")))),
            (Reason::Invalid, with(&|r| header_set(r, header::SPECVERSION, "0.3"))),
            (Reason::UnsupportedVersion, with(&|r| header_set(r, header::DATASCHEMA, "/schemas/trip.booked/2"))),
            (Reason::UnsupportedVersion, with(&|r| header_set(r, header::DATASCHEMA, "/schemas/trip.booked/x"))),
        ];
        for (_, record) in &cases {
            world.broker.append(record.clone());
        }
        world.publish(&booked("fine"));
        let member = world.start(seats());
        world.caught_up().await;
        assert_eq!(world.types("seat.events"), ["seat.taken"], "the partition moves on");
        let letters = world.broker.records("seat.dlq");
        assert_eq!(letters.len(), cases.len());
        for (letter, (reason, original)) in letters.iter().zip(&cases) {
            let text = |name: &str| {
                String::from_utf8(letter.headers.iter().find(|h| h.is(name)).unwrap().value.clone().unwrap()).unwrap()
            };
            assert_eq!(text("error.type"), reason.as_str(), "{original:?}");
            assert_eq!((&letter.key, &letter.value), (&original.key, &original.value));
            assert!(letter.headers.starts_with(&original.headers), "the original headers are kept");
            assert_eq!(text("__dlq.errors.topic"), "trip.events");
        }
        member.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_type_that_is_not_consumed_is_passed_over_and_counted() {
    local(async || {
        let world = World::new(1);
        let mut other = record(&booked("fine"), Uuid::now_v7(), world.clock);
        other.headers.retain(|h| !h.is(header::TYPE));
        other.headers.push(Header::text(header::TYPE, "trip.praised"));
        other.key = None;
        world.broker.append(other);
        let member = world.start(seats());
        world.caught_up().await;
        assert_eq!(member.metrics.passed_over.get(), 1);
        assert_eq!(world.broker.records("seat.dlq"), []);
        member.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_offset_does_not_move_past_a_dead_letter_that_is_not_acknowledged() {
    local(async || {
        let world = World::new(1);
        let mut garbage = record(&booked("fine"), Uuid::now_v7(), world.clock);
        garbage.value = Some(vec![0xff]);
        world.broker.refuse(usize::MAX);
        world.broker.append(garbage);
        let member = world.start(seats());
        world.clock.sleep(Duration::from_secs(30)).await;
        assert!(!world.broker.is_caught_up("seat"));
        world.broker.refuse(0);
        world.caught_up().await;
        assert_eq!(world.broker.records("seat.dlq").len(), 1);
        member.stop().await;
    })
    .await;
}
