//! The course of the demo: start everything, place the orders, stop shipping for a while, wait, and check the invariants.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use saga_core::{graph::Choreography, transport::Producer as _};
use saga_kafka::{KafkaProducer, Publisher};
use serde_json::json;

use super::{
    DemoError, Settings,
    customers::{Customers, PlacedOrder},
    database_state::{DatabaseState, ParkedSagas},
    http_client::HttpClient,
    invariants::{Evidence, PoisonEvent, judge},
    progress::{OrderProgress, waiting},
    progress_display::ProgressDisplay,
    report::{self, Report, Runs},
    scenario::{self, Scenario},
    services::{ServiceKind, Services, USUAL_DEADLINE},
    topic_log::TopicObserver,
};
use saga_tools::text::{count, duration};

/// The deadline of the orders that are to miss it. No other order is placed while it is set.
const SHORT_DEADLINE: Duration = Duration::from_secs(2);
/// The demo stops waiting after this long without a new record. Longer than the longest delay between two attempts.
const PATIENCE: Duration = Duration::from_secs(45);
/// The last rows leave the outbox and the table of parked events shortly after the last event.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One run of the demo.
pub(crate) struct DemoRun<'a> {
    flow: &'a Choreography,
    settings: Settings,
    services: &'a mut Services,
    display: &'a mut ProgressDisplay,
    http: HttpClient,
    begun: Instant,
}

impl<'a> DemoRun<'a> {
    pub(crate) fn new(
        flow: &'a Choreography,
        settings: Settings,
        services: &'a mut Services,
        display: &'a mut ProgressDisplay,
    ) -> Self {
        Self { flow, settings, services, display, http: HttpClient::default(), begun: Instant::now() }
    }

    pub(crate) async fn execute(mut self) -> Result<Report, DemoError> {
        let observer = self.start().await?;
        let mix = scenario::mix(self.settings.orders);
        let stock = self.set_stock().await?;
        let customers = Customers {
            http: self.http.clone(),
            orders: self.services.address(ServiceKind::Order)?,
            publisher: Publisher::new(&self.services.kafka(), "saga-demo")?,
        };

        let (late, usual): (Vec<_>, Vec<_>) = mix.iter().copied().partition(|(e, _)| *e == Scenario::PastDeadline);
        let mut placed = self.place(&customers, &observer, &scenario::sequence(&usual)).await?;
        let poison = self.poison().await?;
        let fast: Vec<PlacedOrder> =
            placed.iter().filter(|order| order.scenario != Scenario::GatewayDown).cloned().collect();
        let all = placed.len() + late.iter().map(|(_, n)| n).sum::<usize>();
        self.wait_for(&observer, &fast, all).await;
        placed.extend(self.outage(&customers, &observer, &scenario::sequence(&late), all).await?);
        let ended = self.wait_for(&observer, &placed, all).await;
        let took_ms = self.begun.elapsed().as_secs_f64() * 1000.0;
        let counted = format!("{ended} of {}", placed.len());
        if ended == placed.len() {
            self.display.done("all orders have ended", &format!("{counted}, after {}", duration(took_ms)));
        } else {
            self.display.failed("not all orders have ended", &counted);
        }
        customers.ask(&mut placed).await?;
        self.judge(&observer, &placed, &stock, &poison).await
    }

    /// Starts the broker, the four services and the demo's consumer.
    async fn start(&mut self) -> Result<TopicObserver, DemoError> {
        let about = format!("{} through four services in one process", count(self.settings.orders, "order"));
        self.display.title("saga demo", &about);
        let rules = saga_core::graph::Rule::ALL.len();
        self.display.done("the participants fit together", &format!("{rules} rules checked, no findings"));
        let topics = format!("{}, {}", self.services.bootstrap_servers(), count(self.services.topics().len(), "topic"));
        self.display.done("kafka, embedded", &topics);
        let observer = TopicObserver::start(&self.services.kafka(), self.services.topics(), self.flow)?;
        for service in ServiceKind::ALL {
            self.display.activity(format!("{} starts", service.name()));
            self.services.start(service, USUAL_DEADLINE, &self.http).await?;
            let about = format!("http://{}, {}.db", self.services.address(service)?, service.name());
            self.display.done(&format!("{} service", service.name()), &about);
        }
        Ok(observer)
    }

    /// Sets a stock that covers every order, except for one article.
    async fn set_stock(&mut self) -> Result<BTreeMap<String, i64>, DemoError> {
        let orders = i64::try_from(self.settings.orders).unwrap_or(i64::MAX / 8);
        let mut stock: BTreeMap<String, i64> =
            scenario::SHELF.into_iter().map(|(sku, _)| (sku.to_owned(), 4 * orders + 100)).collect();
        stock.insert(scenario::SCARCE.0.to_owned(), 1);
        let inventory = self.services.address(ServiceKind::Inventory)?;
        for (sku, quantity) in &stock {
            let body = json!({ "quantity": quantity });
            self.http.put(inventory, &format!("/stock/{sku}"), &body).await?.expect(StatusCode::OK)?;
        }
        Ok(stock)
    }

    async fn place(
        &mut self,
        customers: &Customers,
        observer: &TopicObserver,
        endings: &[Scenario],
    ) -> Result<Vec<PlacedOrder>, DemoError> {
        let progress = self.progress(observer, self.settings.orders);
        let display = &mut *self.display;
        let started = Instant::now();
        let placed = customers
            .place(endings, self.settings.rate, |placed| {
                display.progress(&progress.during(format!("{placed} of {} placed", endings.len())));
            })
            .await?;
        let as_events = placed.iter().filter(|order| order.via == super::customers::PlacedVia::Event).count();
        let cancelled = placed.iter().filter(|order| order.scenario == Scenario::CancelledByCustomer).count();
        let about = format!(
            "in {}: {} over HTTP, {as_events} as events; {cancelled} cancelled",
            duration(started.elapsed().as_secs_f64() * 1000.0),
            placed.len() - as_events
        );
        self.display.done(&format!("{} placed", count(placed.len(), "order")), &about);
        Ok(placed)
    }

    /// Publishes an event that no participant can read.
    async fn poison(&mut self) -> Result<PoisonEvent, DemoError> {
        let poison = PoisonEvent::new();
        let producer = KafkaProducer::new(&self.services.kafka())?;
        let outcome = producer.publish(vec![poison.record.clone()]).await.pop();
        if let Some(Err(error)) = outcome {
            return Err(DemoError::Poison(error.to_string()));
        }
        self.display.done("one poison event published", &format!("{} whose data breaks off", poison.kind));
        Ok(poison)
    }

    /// Stops shipping for longer than the deadline, so orders that were charged meanwhile miss it.
    ///
    /// The deadline is a setting of the order service. It is short only while these orders are placed: an order whose gateway
    /// is down takes longer. Orders placed before keep their timers, which are in the database.
    async fn outage(
        &mut self,
        customers: &Customers,
        observer: &TopicObserver,
        endings: &[Scenario],
        all: usize,
    ) -> Result<Vec<PlacedOrder>, DemoError> {
        let stopped = Instant::now();
        self.services.stop(ServiceKind::Shipping).await;
        self.restart_order(SHORT_DEADLINE).await?;
        let progress = self.progress(observer, all);
        let display = &mut *self.display;
        let down =
            |placed: usize| format!("shipping is stopped; {placed} placed with a deadline of {SHORT_DEADLINE:?}");
        let placed =
            customers.place(endings, self.settings.rate, |n| display.progress(&progress.during(down(n)))).await?;
        let passed = |placed: &PlacedOrder| observer.log().has_cancellation_request(placed.id);
        let patience = Instant::now() + PATIENCE;
        while !placed.iter().all(passed) && Instant::now() < patience {
            display.progress(&progress.during(down(placed.len())));
            observer.changed(LOOK_EVERY).await;
        }
        let outage = duration(stopped.elapsed().as_secs_f64() * 1000.0);
        self.services.start(ServiceKind::Shipping, USUAL_DEADLINE, &self.http).await?;
        let about = format!("{} placed meanwhile, with SAGA_DEADLINE={SHORT_DEADLINE:?}", count(placed.len(), "order"));
        self.display.done(&format!("shipping was stopped for {outage}"), &about);
        if self.settings.keep {
            self.restart_order(USUAL_DEADLINE).await?;
        }
        Ok(placed)
    }

    async fn restart_order(&mut self, deadline: Duration) -> Result<(), DemoError> {
        self.services.stop(ServiceKind::Order).await;
        self.services.start(ServiceKind::Order, deadline, &self.http).await
    }

    /// Waits until these orders have ended or no record has arrived for a while. Returns how many have ended.
    async fn wait_for(&mut self, observer: &TopicObserver, orders: &[PlacedOrder], all: usize) -> usize {
        let progress = self.progress(observer, all);
        let (mut read, mut since) = (0, Instant::now());
        loop {
            let (ended, now_read) = {
                let log = observer.log();
                (orders.iter().filter(|order| log.end(order.id).is_some()).count(), log.entries.len())
            };
            if now_read != read {
                (read, since) = (now_read, Instant::now());
            }
            if ended == orders.len() || since.elapsed() >= PATIENCE {
                return ended;
            }
            let what = match ParkedSagas::by(self.services.dir(), "payment") {
                Some(parked) => waiting(parked),
                None => format!("{} on their way", count(orders.len() - ended, "order")),
            };
            self.display.progress(&progress.during(what));
            observer.changed(LOOK_EVERY).await;
        }
    }

    /// Checks the invariants until all hold or the time is over.
    async fn judge(
        &mut self,
        observer: &TopicObserver,
        placed: &[PlacedOrder],
        stock: &BTreeMap<String, i64>,
        poison: &PoisonEvent,
    ) -> Result<Report, DemoError> {
        let participants: Vec<&str> = self.flow.declarations().iter().map(|d| d.participant).collect();
        let patience = Instant::now() + SETTLED_WITHIN;
        loop {
            let state = DatabaseState::read(self.services.dir(), &participants)?;
            let (invariants, event_counts, took) = {
                let log = observer.log();
                let evidence = Evidence { flow: self.flow, log: &log, state: &state, placed, stock, poison };
                let (invariants, event_counts) = judge(&evidence);
                (invariants, event_counts, report::took(&log, placed))
            };
            let holds = invariants.iter().all(|invariant| invariant.holds);
            if holds || Instant::now() >= patience {
                let log = observer.log();
                return Ok(Report {
                    holds,
                    orders: placed.len(),
                    took_ms: self.begun.elapsed().as_secs_f64() * 1000.0,
                    endings: report::endings(&state, placed, &took),
                    timelines: report::timelines(self.flow, &log, &state, placed, &took),
                    poison: report::dead_letters(&log),
                    invariants,
                    event_counts,
                    runs: self.runs()?,
                });
            }
            self.display.activity("the invariants are checked".to_owned());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn progress<'w>(&self, observer: &'w TopicObserver, all: usize) -> OrderProgress<'w> {
        OrderProgress { observer, all, begun: self.begun }
    }

    fn runs(&self) -> Result<Runs, DemoError> {
        let mut services = BTreeMap::new();
        for service in ServiceKind::ALL {
            services.insert(service.name(), format!("http://{}", self.services.address(service)?));
        }
        Ok(Runs { kafka: self.services.bootstrap_servers().to_owned(), services, data: None })
    }
}
