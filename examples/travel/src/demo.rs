//! The flow in one process, on the embedded broker and SQLite: trips of every ending, all at once.

mod answers;
mod customers;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    time::Duration,
};

use saga::{
    kafka::{KafkaConsumer, Publisher},
    prelude::*,
    store::StoreError,
    tools::event,
    transport::{Consumer, Signal},
};
use tokio::{
    task::JoinSet,
    time::{Instant, interval, sleep, timeout_at},
};

use answers::Answers;
pub use customers::Customer;
use world::World;

use crate::{
    books::{Books, Ending, Evidence},
    trip::{Waits, cancel_trip},
};

/// How long no event may come while trips are in flight, and how long a mail may take after the last one.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the topics are read after the last end, for an end too many.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// How often customers look whether they are asked something.
const LOOK: Duration = Duration::from_millis(50);
/// A customer who cancels at once may be faster than the registration of the trip, and asks again.
const TRIES: u32 = 200;
const WAITS: Waits =
    Waits { end: Duration::from_secs(60), places: Duration::from_secs(30), answer: Duration::from_millis(1500) };

/// The customer of each trip, numbered within their kind.
type Customers = BTreeMap<Uuid, (usize, Customer)>;

/// How the trips of each kind of customer have ended, and what the run has left.
pub struct Report {
    /// By customer.
    pub endings: BTreeMap<Customer, BTreeMap<Ending, usize>>,
    /// To be judged.
    pub evidence: Evidence,
}

/// Runs this many trips for each kind of customer.
///
/// # Errors
/// When the flow cannot run: a folder, a port or a thread is not to be had.
pub async fn run(each: usize) -> Result<Report, Box<dyn Error>> {
    let customers: Customers = (0..each).flat_map(|n| Customer::ALL.map(|who| (Uuid::now_v7(), (n, who)))).collect();
    let mut world = World::start(WAITS, customers.len()).await?;
    let publisher = Publisher::new(&world.kafka(), "travel-demo")?;
    let requests: Vec<_> = customers.iter().map(|(trip, (_, who))| who.request(*trip)).collect();
    for published in publisher.publish_all(&requests).await {
        published?;
    }

    let mut ends: BTreeMap<Uuid, Vec<Ending>> = BTreeMap::new();
    let (mut seen, mut dead_letters, mut cancelling) = (BTreeSet::new(), 0, JoinSet::new());
    let mut observer = KafkaConsumer::subscribe(&world.kafka(), "travel-demo", &world.topics())?;
    let (mut answers, mut looks, mut heard) = (Answers::new(&customers), interval(LOOK), Instant::now());
    loop {
        let patience = if ends.len() < customers.len() { PATIENCE } else { AFTERWARDS };
        let signal = tokio::select! {
            signal = timeout_at(heard + patience, observer.next(100)) => signal,
            ended = world.ended() => return Err(ended.into()),
            _ = looks.tick() => {
                answers.give(&customers, &world.databases().trip, &publisher).await?;
                continue;
            }
            Some(cancelled) = cancelling.join_next() => {
                cancelled??;
                continue;
            }
        };
        // Nothing more comes.
        let Ok(signal) = signal else { break };
        let Signal::Records(records) = signal else { continue };
        heard = Instant::now();
        for record in records {
            if event::is_dead_letter(&record) {
                dead_letters += 1;
                continue;
            }
            let event = event::read(&record, None).map_err(|poison| format!("{poison:?}"))?;
            let (Some((n, who)), true) = (customers.get(&event.saga), seen.insert(event.identity)) else { continue };
            let trip_id = event.saga;
            if let Some(ending) = Ending::of(&event.kind, event.reason.as_deref()) {
                ends.entry(trip_id).or_default().push(ending);
            }
            if who.cancels_at(*n) == Some(event.kind.as_str()) {
                let outbox = world.outbox();
                cancelling.spawn(async move {
                    for _ in 0..TRIES {
                        if cancel_trip(&outbox, &saga::trace::TraceContext::default(), trip_id).await? {
                            break;
                        }
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Ok::<_, StepError>(())
                });
            }
        }
    }
    let mut endings: BTreeMap<Customer, BTreeMap<Ending, usize>> = BTreeMap::new();
    for (trip, ends) in &ends {
        for ending in ends {
            *endings.entry(customers[trip].1).or_default().entry(ending.clone()).or_default() += 1;
        }
    }
    let expected = customers.iter().map(|(trip, (_, who))| (*trip, who.expects())).collect();
    let (places, agreed, books) = (world.places(), answers.agreed, books_when_told(&world, &ends).await?);
    Ok(Report { endings, evidence: Evidence { places, expected, agreed, ends, books, dead_letters } })
}

/// The books when every customer is told how their trip has ended, or has waited long enough: no event says that a mail is written.
async fn books_when_told(world: &World, ends: &BTreeMap<Uuid, Vec<Ending>>) -> Result<Books, StoreError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let books = world.databases().books().await?;
        if ends.keys().all(|trip| books.told.contains(trip)) || Instant::now() > until {
            return Ok(books);
        }
        sleep(LOOK).await;
    }
}
