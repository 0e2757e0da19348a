//! Rounds that fail, whose effect is repeated, and whose process dies.

use super::*;

/// Fails once in its second round.
fn failing_once(failures: &Arc<Mutex<u32>>) -> Participant<MemoryStore> {
    let failures = failures.clone();
    let step = Step::new("remind", async move |cx: &mut Context<'_>, offer: Offer| -> StepResult<Accepted> {
        let mut failures = failures.lock().unwrap();
        if cx.round() == 1 && *failures < 2 {
            *failures += 1;
            return Err(StepError::transient("the mail server is busy"));
        }
        drop(failures);
        note_round(cx, offer.id());
        Ok(if cx.round() < 2 {
            Outcome::Again { after: MINUTE }
        } else {
            Outcome::Success(Accepted { id: offer.id() })
        })
    });
    let retry = RetryPolicy::exponential(MINUTE / 6, MINUTE / 6, 3);
    Participant::named("sale").step(step.again(Rounds::at_most(3)).retry(retry)).step(Step::new("note", note))
}

#[tokio::test(start_paused = true)]
async fn a_round_that_fails_is_retried_by_itself_and_others_do_not_wait_for_it() {
    let failures = Arc::default();
    World::with(failing_once(&failures), async |world| {
        let id = offered(world).await;
        world.clock.sleep(MINUTE + Duration::from_secs(1)).await;
        assert_eq!((rounds(&world.store, id).await, *failures.lock().unwrap()), (vec![0], 1));
        assert_eq!(world.store.summary().await.unwrap().parked_sagas, 1, "an operator sees it");
        world.publish(&Answered { id });
        world.clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(world.types("sale.events"), ["sale.noted"]);
        world.clock.sleep(MINUTE / 2).await;
        assert_eq!((rounds(&world.store, id).await, *failures.lock().unwrap()), (vec![0, 1], 2));
        world.clock.sleep(MINUTE).await;
        assert_eq!(rounds(&world.store, id).await, [0, 1, 2]);
        assert!(world.types("sale.dlq").is_empty());
    })
    .await;
}

/// The round and the key of each call.
type Calls = Arc<Mutex<Vec<(u32, Uuid)>>>;

/// Asks an outside system in three rounds, which takes a second each time.
fn asks(calls: &Calls) -> Participant<MemoryStore> {
    let calls = calls.clone();
    let ask = async move |call: &Call, _: &Offer| {
        calls.lock().unwrap().push((call.round, call.idempotency_key));
        VirtualClock::start().sleep(Duration::from_secs(1)).await;
        Ok(call.round == 2)
    };
    let record = async |cx: &mut Context<'_>, offer: Offer, done: bool| -> StepResult<Accepted> {
        note_round(cx, offer.id());
        Ok(if done { Outcome::Success(Accepted { id: offer.id() }) } else { Outcome::Again { after: MINUTE } })
    };
    Participant::named("sale").step(Step::with_effect("remind", ask, record).again(Rounds::at_most(9)))
}

#[tokio::test(start_paused = true)]
async fn the_effect_of_each_round_has_its_own_key() {
    let calls = Calls::default();
    World::with(asks(&calls), async |world| {
        // Of the start and of the answer of the second round.
        let id = offered(world).await;
        world.clock.sleep(MINUTE / 2).await;
        world.store.inject([Fault::CommitAnswer, Fault::CommitAnswer]);
        world.clock.sleep(2 * MINUTE).await;
        assert_eq!(rounds(&world.store, id).await, [0, 1, 2]);
        assert_eq!(world.types("sale.events"), ["sale.accepted"]);
        let calls = calls.lock().unwrap().clone();
        assert_eq!(calls.iter().map(|(round, _)| *round).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(calls[0].1 != calls[1].1 && calls[1].1 != calls[2].1 && calls[0].1 != calls[2].1, "{calls:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_round_whose_effect_was_being_called_at_a_kill_is_called_again_under_its_key() {
    let (broker, store, clock) = (MemoryBroker::new(1), MemoryStore::default(), VirtualClock::start());
    let (offer, calls) = (Made { id: Uuid::now_v7() }, Calls::default());
    broker.append(record(&offer, clock));
    for killed_at in [2, 9] {
        let handle = Handle::new("sale", store.clone(), broker.producer(), clock);
        let consumer = broker.subscribe("sale", &asks(&calls).declaration().consumed_topics());
        let run = Runtime::new(asks(&calls), handle, Options::default()).run(consumer, std::future::pending());
        let over = async || calls.lock().unwrap().len() == killed_at || !broker.records("sale.events").is_empty();
        tokio::select! {
            result = run => panic!("{result:?}"),
            () = eventually(clock, "it is called, or done", over) => {}
        }
    }
    assert_eq!(rounds(&store, offer.id).await, [0, 1, 2]);
    let calls = calls.lock().unwrap().clone();
    assert_eq!(calls.iter().map(|(round, _)| *round).collect::<Vec<_>>(), [0, 1, 1, 2]);
    assert_eq!(calls[1].1, calls[2].1);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_whose_commit_was_not_answered_is_not_run_again_as_the_same_round() {
    World::with(sales(), async |world| {
        world.store.inject([Fault::CommitAnswer]);
        let id = offered(world).await;
        for round in 1..3 {
            world.clock.sleep(MINUTE / 2).await;
            world.store.inject([Fault::CommitAnswer]);
            world.clock.sleep(MINUTE / 2 + Duration::from_secs(10)).await;
            let expected: Vec<u32> = (0..=round).collect();
            assert_eq!(rounds(&world.store, id).await, expected, "once each");
        }
        world.store.put(&answer(id), &true).await;
        world.clock.sleep(MINUTE + Duration::from_secs(10)).await;
        assert_eq!(rounds(&world.store, id).await, [0, 1, 2, 3], "and none is forgotten");
        assert_eq!(world.types("sale.events"), ["sale.accepted"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_killed_between_two_rounds_leaves_the_next_one_to_another() {
    let (broker, store, clock) = (MemoryBroker::new(1), MemoryStore::default(), VirtualClock::start());
    let offer = Made { id: Uuid::now_v7() };
    broker.append(record(&offer, clock));
    for killed_after in 1..=3 {
        let handle = Handle::new("sale", store.clone(), broker.producer(), clock);
        let consumer = broker.subscribe("sale", &sales().declaration().consumed_topics());
        let run = Runtime::new(sales(), handle, Options::default()).run(consumer, std::future::pending());
        // The process is dropped where it is: as soon as the checkpoint is committed.
        tokio::select! {
            result = run => panic!("{result:?}"),
            () = async {
                eventually(clock, "the next round", async || rounds(&store, offer.id).await.len() == killed_after).await;
            } => {}
        }
        clock.sleep(MINUTE).await;
    }
    assert_eq!(rounds(&store, offer.id).await, [0, 1, 2]);
}
