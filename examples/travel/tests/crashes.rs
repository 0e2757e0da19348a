//! Everybody dies together at any point. What they go on with afterwards ends rightly: by itself, cancelled by the customer, or
//! cancelled by the deadline.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use common::{PLACES, SOON, WAITS, databases, flow, requested};
use saga::{
    database::Outbox,
    prelude::*,
    testing::{Published, Running},
    trace::TraceContext,
};
use travel::{
    books::{Ending, Evidence},
    events::{TripRequested, Wanted},
    trip::cancel_trip,
};

/// Of six trips two go well, one has no room, one no car, one no money, and one costs more than the customer has seen.
fn requests() -> Vec<TripRequested> {
    let named = |name: &str| Wanted { name: name.to_owned(), quoted_cents: 100 };
    let request = |i: u128| {
        let mut request = TripRequested { trip_id: Uuid::from_u128(i + 1), ..requested() };
        match i % 6 {
            1 => request.hotel = named("full"),
            2 => request.car = named("full"),
            3 => request.card = "declined".to_owned(),
            4 => request.hotel = named("dear"),
            _ => {}
        }
        request
    };
    (0..6).map(request).collect()
}

fn cancelled(reason: &str) -> Ending {
    Ending::Cancelled(reason.to_owned())
}

/// How each ends when nobody cancels it.
fn by_themselves() -> BTreeMap<Uuid, Vec<Ending>> {
    let ends = [
        Ending::Confirmed,
        cancelled("no_hotel"),
        cancelled("no_car"),
        cancelled("card_declined"),
        cancelled("no_answer"),
        Ending::Confirmed,
    ];
    (1..).map(Uuid::from_u128).zip(ends.map(|end| vec![end])).collect()
}

/// How each may end when somebody cancels it for this reason.
fn or_cancelled(reason: &str) -> BTreeMap<Uuid, Vec<Ending>> {
    by_themselves().into_iter().map(|(trip, ends)| (trip, [ends, vec![cancelled(reason)]].concat())).collect()
}

/// The ends of each trip; an event that a crash published twice counts once.
fn ends(events: &[Published]) -> BTreeMap<Uuid, Vec<Ending>> {
    let (mut ends, mut seen): (BTreeMap<Uuid, Vec<Ending>>, _) = (BTreeMap::new(), Vec::new());
    for event in events {
        let reason = event.data.get("reason").and_then(|reason| reason.as_str());
        if let (Some(ending), false) = (Ending::of(&event.event_type, reason), seen.contains(&event.record.headers)) {
            seen.push(event.record.headers.clone());
            ends.entry(event.saga_id.parse().unwrap()).or_default().push(ending);
        }
    }
    ends
}

/// Runs the future, and drops it where it would be polled for the nth time; none when it was dropped.
async fn up_to<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut left) = (pin!(future), polls);
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Publishes what is not published yet and waits for what follows at once.
async fn place(flow: &Running<Db>, requests: &[TripRequested]) {
    let placed = flow.types().iter().filter(|event| *event == TripRequested::NAME).count();
    for request in &requests[placed..] {
        flow.publish(request);
    }
    flow.settle().await;
}

/// Crashes at every `every`th point, stays down for this long, goes on with `then` before anything else, and judges what is left. Returns
/// how trips have ended.
async fn crash_at(
    every: usize,
    expected: BTreeMap<Uuid, Vec<Ending>>,
    down: Duration,
    then: impl AsyncFn(&Running<Db>),
) -> BTreeSet<Ending> {
    let (requests, mut crashes, mut seen) = (requests(), 0, BTreeSet::new());
    for polls in (1..).step_by(every) {
        let (databases, broker) = (databases().await, MemoryBroker::new(3));
        let first = flow(&databases, &broker).run(async |flow| place(flow, &requests).await);
        if up_to(polls, first).await.is_some() {
            break;
        }
        crashes += 1;
        tokio::time::sleep(down).await;
        let evidence = flow(&databases, &broker)
            .run(async |flow| {
                then(flow).await;
                place(flow, &requests).await;
                // Whoever has not answered is asked once more, and then no more.
                flow.after(2 * (WAITS.answer + SOON)).await;
                Evidence {
                    places: [PLACES; 3],
                    expected: expected.clone(),
                    agreed: requests.iter().map(|request| (request.trip_id, request.quoted_cents())).collect(),
                    ends: ends(&flow.events()),
                    books: databases.books().await.unwrap(),
                    dead_letters: flow.dead_letters().len(),
                }
            })
            .await;
        let broken: Vec<_> = evidence.judge().into_iter().filter(|i| i.broken.is_some()).collect();
        assert!(broken.is_empty(), "after {polls} polls: {broken:#?}");
        seen.extend(evidence.ends.into_values().flatten());
    }
    assert!(crashes > 10, "{crashes} crashes");
    seen
}

#[tokio::test(start_paused = true)]
async fn trips_end_as_they_would_have_without_a_crash() {
    let seen = crash_at(2, by_themselves(), Duration::ZERO, async |_| {}).await;
    assert_eq!(seen.len(), 5, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_customer_may_cancel_at_any_moment() {
    let seen = crash_at(3, or_cancelled("customer"), Duration::ZERO, async |flow| {
        let outbox = Outbox::new(flow.store("trip").clone(), flow.outbox("trip"));
        for request in requests() {
            cancel_trip(&outbox, &TraceContext::default(), request.trip_id).await.unwrap();
        }
    })
    .await;
    assert!(seen.contains(&cancelled("customer")) && seen.contains(&Ending::Confirmed), "{seen:?}");
}

/// It passes while everybody is down, so it fires together with what is left to do.
#[tokio::test(start_paused = true)]
async fn the_deadline_may_pass_at_any_moment() {
    let seen = crash_at(3, or_cancelled("deadline"), WAITS.end + SOON, async |_| {}).await;
    assert!(seen.contains(&cancelled("deadline")) && seen.contains(&Ending::Confirmed), "{seen:?}");
}
