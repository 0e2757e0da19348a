//! The course of the demo: start everything, place the orders, let shipping be down for a while, wait, judge.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hyper::StatusCode;
use saga_core::{graph::Choreography, transport::Producer as _};
use saga_kafka::{KafkaProducer, Publisher};
use serde_json::json;

use super::{
    DemoError, Settings,
    ending::{self, Ending},
    facts::{Facts, Parked},
    fleet::{Fleet, Member, USUAL_DEADLINE},
    gauge::{Gauge, waiting},
    http::Http,
    invariants::{Evidence, Poison, judge},
    journal::Watcher,
    place::{Customers, Placed},
    report::{self, Report, Runs},
    screen::Screen,
};
use saga_tools::text::{Line, count, duration};

/// Of the orders that are to run past it. No other order is placed while it is in force.
const SHORT_DEADLINE: Duration = Duration::from_secs(2);
/// Nothing happened for so long: nothing will. Longer than the longest pause between two attempts.
const PATIENCE: Duration = Duration::from_secs(45);
/// The last rows leave outbox and table of parked events a moment after the last event.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the story is told with.
pub(crate) struct Story<'a> {
    flow: &'a Choreography,
    settings: Settings,
    fleet: &'a mut Fleet,
    screen: &'a mut Screen,
    http: Http,
    begun: Instant,
}

impl<'a> Story<'a> {
    pub(crate) fn new(
        flow: &'a Choreography,
        settings: Settings,
        fleet: &'a mut Fleet,
        screen: &'a mut Screen,
    ) -> Self {
        Self { flow, settings, fleet, screen, http: Http::new(), begun: Instant::now() }
    }

    pub(crate) async fn tell(mut self) -> Result<Report, DemoError> {
        let watcher = self.start().await?;
        let mix = ending::mix(self.settings.orders);
        let stock = self.set_stock().await?;
        let customers = Customers {
            http: self.http.clone(),
            orders: self.fleet.address(Member::Order)?,
            publisher: Publisher::new(&self.fleet.kafka(), "saga-demo")?,
        };

        let (late, usual): (Vec<_>, Vec<_>) = mix.iter().copied().partition(|(e, _)| *e == Ending::PastDeadline);
        let mut placed = self.place(&customers, &watcher, &ending::sequence(&usual)).await?;
        let poison = self.poison().await?;
        let fast: Vec<Placed> = placed.iter().filter(|order| order.ending != Ending::GatewayDown).cloned().collect();
        let all = placed.len() + late.iter().map(|(_, n)| n).sum::<usize>();
        self.wait_for(&watcher, &fast, all).await;
        placed.extend(self.outage(&customers, &watcher, &ending::sequence(&late), all).await?);
        let ended = self.wait_for(&watcher, &placed, all).await;
        let took_ms = self.begun.elapsed().as_secs_f64() * 1000.0;
        let counted = format!("{ended} of {}", placed.len());
        if ended == placed.len() {
            self.screen.done("all orders have ended", &format!("{counted}, after {}", duration(took_ms)));
        } else {
            self.screen.failed("not all orders have ended", &counted);
        }
        customers.ask(&mut placed).await?;
        self.judge(&watcher, &placed, &stock, &poison).await
    }

    /// The broker, the four services, and the demo's own consumer.
    async fn start(&mut self) -> Result<Watcher, DemoError> {
        let about = format!("{} through four services in one process", count(self.settings.orders, "order"));
        self.screen.title("saga demo", &about);
        let rules = saga_core::graph::Rule::ALL.len();
        self.screen.done("the participants fit together", &format!("{rules} rules checked, no findings"));
        let topics = format!("{}, {}", self.fleet.bootstrap_servers(), count(self.fleet.topics().len(), "topic"));
        self.screen.done("kafka, embedded", &topics);
        let watcher = Watcher::start(&self.fleet.kafka(), self.fleet.topics(), self.flow)?;
        for member in Member::ALL {
            self.screen.working(&[Line::new().plain(format!("{} starts", member.name()))]);
            self.fleet.start(member, USUAL_DEADLINE, &self.http).await?;
            let about = format!("http://{}, {}.db", self.fleet.address(member)?, member.name());
            self.screen.done(&format!("{} service", member.name()), &about);
        }
        Ok(watcher)
    }

    /// Enough of everything, and too little of one thing.
    async fn set_stock(&mut self) -> Result<BTreeMap<String, i64>, DemoError> {
        let orders = i64::try_from(self.settings.orders).unwrap_or(i64::MAX / 8);
        let mut stock: BTreeMap<String, i64> =
            ending::SHELF.into_iter().map(|(sku, _)| (sku.to_owned(), 4 * orders + 100)).collect();
        stock.insert(ending::SCARCE.0.to_owned(), 1);
        let inventory = self.fleet.address(Member::Inventory)?;
        for (sku, quantity) in &stock {
            let body = json!({ "quantity": quantity });
            self.http.put(inventory, &format!("/stock/{sku}"), &body).await?.expect(StatusCode::OK)?;
        }
        Ok(stock)
    }

    async fn place(
        &mut self,
        customers: &Customers,
        watcher: &Watcher,
        endings: &[Ending],
    ) -> Result<Vec<Placed>, DemoError> {
        let gauge = self.gauge(watcher, self.settings.orders);
        let screen = &mut *self.screen;
        let started = Instant::now();
        let placed = customers
            .place(endings, self.settings.rate, |placed| {
                screen.working(&gauge.lines(format!("{placed} of {} placed", endings.len())));
            })
            .await?;
        let as_events = placed.iter().filter(|order| order.via == super::place::Via::Event).count();
        let called_off = placed.iter().filter(|order| order.ending == Ending::CancelledByCustomer).count();
        let about = format!(
            "in {}: {} over HTTP, {as_events} as events; {called_off} called off",
            duration(started.elapsed().as_secs_f64() * 1000.0),
            placed.len() - as_events
        );
        self.screen.done(&format!("{} placed", count(placed.len(), "order")), &about);
        Ok(placed)
    }

    /// Publishes an event that nobody can read.
    async fn poison(&mut self) -> Result<Poison, DemoError> {
        let poison = Poison::new();
        let producer = KafkaProducer::new(&self.fleet.kafka())?;
        let outcome = producer.publish(vec![poison.record.clone()]).await.pop();
        if let Some(Err(error)) = outcome {
            return Err(DemoError::Poison(error.to_string()));
        }
        self.screen.done("one poison event published", &format!("{} whose data breaks off", poison.kind));
        Ok(poison)
    }

    /// Shipping is down for longer than the deadline allows, so orders that were paid for meanwhile run past it.
    ///
    /// The deadline is a setting of the order service, and an order whose gateway is down takes longer than anyone wants
    /// to watch a deadline: so it is made short for as long as these orders are placed. The timers of orders that were
    /// placed before are in the database, and stay as they are.
    async fn outage(
        &mut self,
        customers: &Customers,
        watcher: &Watcher,
        endings: &[Ending],
        all: usize,
    ) -> Result<Vec<Placed>, DemoError> {
        let stopped = Instant::now();
        self.fleet.stop(Member::Shipping).await;
        self.restart_order(SHORT_DEADLINE).await?;
        let gauge = self.gauge(watcher, all);
        let screen = &mut *self.screen;
        let down =
            |placed: usize| format!("shipping is stopped; {placed} placed with a deadline of {SHORT_DEADLINE:?}");
        let placed = customers.place(endings, self.settings.rate, |n| screen.working(&gauge.lines(down(n)))).await?;
        let passed = |placed: &Placed| watcher.journal().is_called_off(placed.id);
        let patience = Instant::now() + PATIENCE;
        while !placed.iter().all(passed) && Instant::now() < patience {
            screen.working(&gauge.lines(down(placed.len())));
            watcher.changed(LOOK_EVERY).await;
        }
        let outage = duration(stopped.elapsed().as_secs_f64() * 1000.0);
        self.fleet.start(Member::Shipping, USUAL_DEADLINE, &self.http).await?;
        let about = format!("{} placed meanwhile, with SAGA_DEADLINE={SHORT_DEADLINE:?}", count(placed.len(), "order"));
        self.screen.done(&format!("shipping was stopped for {outage}"), &about);
        if self.settings.keep {
            self.restart_order(USUAL_DEADLINE).await?;
        }
        Ok(placed)
    }

    async fn restart_order(&mut self, deadline: Duration) -> Result<(), DemoError> {
        self.fleet.stop(Member::Order).await;
        self.fleet.start(Member::Order, deadline, &self.http).await
    }

    /// Waits until these orders have ended, or nothing happens any more. How many have.
    async fn wait_for(&mut self, watcher: &Watcher, orders: &[Placed], all: usize) -> usize {
        let gauge = self.gauge(watcher, all);
        let (mut read, mut since) = (0, Instant::now());
        loop {
            let (ended, now_read) = {
                let journal = watcher.journal();
                (orders.iter().filter(|order| journal.end(order.id).is_some()).count(), journal.entries.len())
            };
            if now_read != read {
                (read, since) = (now_read, Instant::now());
            }
            if ended == orders.len() || since.elapsed() >= PATIENCE {
                return ended;
            }
            let what = match Parked::by(self.fleet.dir(), "payment") {
                Some(parked) => waiting(parked),
                None => format!("{} on their way", count(orders.len() - ended, "order")),
            };
            self.screen.working(&gauge.lines(what));
            watcher.changed(LOOK_EVERY).await;
        }
    }

    /// Judges until everything holds, or nothing changes any more.
    async fn judge(
        &mut self,
        watcher: &Watcher,
        placed: &[Placed],
        stock: &BTreeMap<String, i64>,
        poison: &Poison,
    ) -> Result<Report, DemoError> {
        let participants: Vec<&str> = self.flow.declarations().iter().map(|d| d.participant).collect();
        let patience = Instant::now() + SETTLED_WITHIN;
        loop {
            let facts = Facts::read(self.fleet.dir(), &participants)?;
            let (invariants, books, took) = {
                let journal = watcher.journal();
                let evidence = Evidence { flow: self.flow, journal: &journal, facts: &facts, placed, stock, poison };
                let (invariants, books) = judge(&evidence);
                (invariants, books, report::took(&journal, placed))
            };
            let holds = invariants.iter().all(|invariant| invariant.holds);
            if holds || Instant::now() >= patience {
                let journal = watcher.journal();
                return Ok(Report {
                    holds,
                    orders: placed.len(),
                    took_ms: self.begun.elapsed().as_secs_f64() * 1000.0,
                    endings: report::endings(&facts, placed, &took),
                    timelines: report::timelines(self.flow, &journal, &facts, placed, &took),
                    poison: report::letters(&journal),
                    invariants,
                    books,
                    runs: self.runs()?,
                });
            }
            self.screen.working(&[Line::new().plain("the books are balanced")]);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn gauge<'w>(&self, watcher: &'w Watcher, all: usize) -> Gauge<'w> {
        Gauge { watcher, all, begun: self.begun, moves: self.screen.moves() }
    }

    fn runs(&self) -> Result<Runs, DemoError> {
        let mut services = BTreeMap::new();
        for member in Member::ALL {
            services.insert(member.name(), format!("http://{}", self.fleet.address(member)?));
        }
        Ok(Runs { kafka: self.fleet.bootstrap_servers().to_owned(), services, data: None })
    }
}
