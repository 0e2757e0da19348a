//! Both banks together, in virtual time: every ending, many transfers at once, and crashes at every point.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use common::{payee as payee_db, payer_with, requested};
use saga::{prelude::*, testing::Published};
use transfer::{
    books::{Books, Ending, Evidence, Notes},
    events::TransferRequested,
    payee, payer,
};

/// A flow of both banks on these databases and this broker.
fn flow(payer_db: &Db, payee_db: &Db, broker: &MemoryBroker) -> Flow<Db> {
    let members = [(payer::participant(), payer_db.clone()), (payee::participant(), payee_db.clone())];
    Flow::on(members).on_broker(broker)
}

/// Requests of ten cents each; of six, one goes to a closed account.
fn requests(count: u128) -> Vec<TransferRequested> {
    let request = |i| {
        let to = if i % 6 == 5 { "gone" } else { "shop" };
        TransferRequested { transfer_id: Uuid::from_u128(i + 1), to: to.to_owned(), ..requested(10) }
    };
    (0..count).map(request).collect()
}

/// Publishes them all at once and waits for what follows.
async fn place(flow: &saga::testing::Running<Db>, requests: &[TransferRequested]) {
    for request in requests {
        flow.publish(request);
    }
    flow.settle().await;
}

/// The ends of each transfer; an event that a crash published twice counts once.
fn ends(requests: &[TransferRequested], events: &[Published]) -> BTreeMap<Uuid, Vec<Ending>> {
    let mut ends: BTreeMap<Uuid, Vec<Ending>> = requests.iter().map(|r| (r.transfer_id, Vec::new())).collect();
    let mut seen = Vec::new();
    for event in events {
        if let (Some(ending), false) = (Ending::of(&event.event_type), seen.contains(&event.record.headers)) {
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

#[tokio::test(start_paused = true)]
async fn a_transfer_ends_credited_refused_or_refunded() {
    for (cents, to, events) in [
        (100, "shop", vec!["transfer.requested", "payer.debited", "payee.credited"]),
        (99, "shop", vec!["transfer.requested", "payer.refused"]),
        (100, "gone", vec!["transfer.requested", "payer.debited", "payee.refused", "payer.refunded"]),
    ] {
        let (payer, payee) = (payer_with(cents).await, payee_db().await);
        flow(&payer, &payee, &MemoryBroker::new(3))
            .run(async |flow| {
                flow.when(&TransferRequested { to: to.to_owned(), ..requested(100) }).await;
                assert_eq!(flow.types(), events);
                assert!(flow.dead_letters().is_empty());
            })
            .await;
        assert_eq!(Books::read(&payer, &payee).await.unwrap().total(), cents);
    }
}

#[tokio::test(start_paused = true)]
async fn transfers_at_once_never_spend_more_than_there_is() {
    let (payer, payee) = (payer_with(305).await, payee_db().await);
    let to_shop = |request: &TransferRequested| request.to == "shop";
    let requests: Vec<_> = requests(72).into_iter().filter(to_shop).collect();
    flow(&payer, &payee, &MemoryBroker::new(3))
        .run(async |flow| {
            place(flow, &requests).await;
            let ends = ends(&requests, &flow.events());
            assert!(ends.values().all(|ends| ends.len() == 1), "{ends:?}");
            let credited = ends.values().flatten().filter(|end| **end == Ending::Credited).count();
            assert_eq!((requests.len(), credited), (60, 30));
        })
        .await;
    let books = Books::read(&payer, &payee).await.unwrap();
    assert_eq!((books.payer.cents, books.payee.cents, books.in_transit()), (5, 300, 0));
}

/// Both banks die together, later and later, until they come to the end before they die. What they have committed and
/// published stays, and whatever they did not commit is gone.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_point_loses_no_money_and_makes_none() {
    let (requests, mut crashes, mut in_transit) = (requests(12), 0, 0);
    for polls in 1.. {
        let (payer, payee, broker) = (payer_with(1000).await, payee_db().await, MemoryBroker::new(3));
        let first = flow(&payer, &payee, &broker).run(async |flow| place(flow, &requests).await);
        if up_to(polls, first).await.is_some() {
            break;
        }
        crashes += 1;
        let torn = Books::read(&payer, &payee).await.unwrap();
        in_transit += usize::from(torn.in_transit() > 0);
        let evidence = flow(&payer, &payee, &broker)
            .run(async |flow| {
                let placed = flow.types().iter().filter(|event| *event == TransferRequested::NAME).count();
                place(flow, &requests[placed..]).await;
                Evidence {
                    before: 1000,
                    expected: [(Ending::Credited, 10), (Ending::Refunded, 2)].into(),
                    ends: ends(&requests, &flow.events()),
                    books: Books::read(&payer, &payee).await.unwrap(),
                    notes: Notes::read(&payer, &payee).await.unwrap(),
                    meanwhile: vec![torn],
                    dead_letters: flow.dead_letters().len(),
                }
            })
            .await;
        let broken: Vec<_> = evidence.judge().into_iter().filter(|i| i.broken.is_some()).collect();
        assert!(broken.is_empty(), "after {polls} polls: {broken:?}");
    }
    assert!(crashes > 10 && in_transit > 0, "{crashes} crashes, {in_transit} of them with money in transit");
}
