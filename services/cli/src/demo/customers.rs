//! Places orders as customers and other programs do: over HTTP and as events. Cancels some of them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use order_flow_events::OrderCreated;
use reqwest::StatusCode;
use saga_kafka::Publisher;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{task::JoinSet, time::MissedTickBehavior};
use uuid::Uuid;

use super::{
    DemoError,
    http_client::{HttpClient, HttpError, HttpResponse},
    scenario::Scenario,
};

/// Attempts at a cancellation: it fails when the order is confirmed first, and another order is placed.
const CANCELLATIONS: usize = 50;
/// Most concurrent requests. They bound the rate when the machine is too slow for the requested one.
const AT_ONCE: usize = 64;
/// How long to retry while the service is busy or starting.
const PATIENCE: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// One in this many confirmed orders is published as an event.
const EVERY_NTH_AS_EVENT: usize = 5;

/// How an order was placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PlacedVia {
    Http,
    Event,
}

/// The response to `GET /orders/{id}`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct ReportedStatus {
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
}

/// An order that was placed.
#[derive(Clone, Debug)]
pub(crate) struct PlacedOrder {
    pub(crate) scenario: Scenario,
    pub(crate) id: Uuid,
    pub(crate) event: OrderCreated,
    pub(crate) via: PlacedVia,
    pub(crate) sent: Instant,
    /// The service's final answer about it.
    pub(crate) shown: Option<ReportedStatus>,
}

impl PlacedOrder {
    /// The expected final status.
    pub(crate) fn status(&self) -> &'static str {
        if self.scenario.reason().is_none() { "confirmed" } else { "cancelled" }
    }

    /// The expected final reason.
    pub(crate) fn reason(&self) -> Option<String> {
        self.scenario.reason().map(|reason| reason.as_str().to_owned())
    }
}

/// Places orders at the order service or at the broker.
#[derive(Clone)]
pub(crate) struct Customers {
    pub(crate) http: HttpClient,
    pub(crate) orders: SocketAddr,
    pub(crate) publisher: Publisher,
}

impl Customers {
    /// Places one order per scenario at this rate, and reports the number of orders placed so far.
    pub(crate) async fn place(
        &self,
        endings: &[Scenario],
        rate: f64,
        mut tell: impl FnMut(usize),
    ) -> Result<Vec<PlacedOrder>, DemoError> {
        let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut tasks, mut placed, mut confirmed) = (JoinSet::new(), Vec::new(), 0);
        for (n, scenario) in endings.iter().copied().enumerate() {
            pace.tick().await;
            while tasks.len() >= AT_ONCE
                && let Some(done) = tasks.join_next().await
            {
                placed.extend(joined(done)?);
            }
            let customers = self.clone();
            confirmed += usize::from(scenario == Scenario::Confirmed);
            let as_event = scenario == Scenario::Confirmed && confirmed % EVERY_NTH_AS_EVENT == 1;
            tasks.spawn(async move {
                match scenario {
                    Scenario::CancelledByCustomer => customers.order_and_cancel(n).await,
                    _ if as_event => customers.publish(scenario, n).await.map(|placed| vec![placed]),
                    _ => customers.order(scenario, n).await.map(|placed| vec![placed]),
                }
            });
            while let Some(done) = tasks.try_join_next() {
                placed.extend(joined(done)?);
            }
            tell(placed.len());
        }
        while let Some(done) = tasks.join_next().await {
            placed.extend(joined(done)?);
            tell(placed.len());
        }
        Ok(placed)
    }

    async fn order(&self, scenario: Scenario, n: usize) -> Result<PlacedOrder, DemoError> {
        let basket = scenario.basket(n);
        let body = serde_json::to_value(&basket)?;
        let sent = Instant::now();
        let answer = self.insist("/orders", Some(&body)).await?.expect(StatusCode::ACCEPTED)?;
        let id = answer.get("order_id").and_then(Value::as_str).and_then(|id| id.parse().ok());
        let id: Uuid = id.ok_or_else(|| DemoError::NoOrder(answer.to_string()))?;
        Ok(PlacedOrder { scenario, id, event: basket.into_event(id), via: PlacedVia::Http, sent, shown: None })
    }

    /// Retries while the service is busy. The idempotency key stays the same, so the order is created once.
    async fn insist(&self, path: &str, body: Option<&Value>) -> Result<HttpResponse, HttpError> {
        let (key, begun) = (Uuid::now_v7().to_string(), Instant::now());
        loop {
            let busy = match self.http.post(self.orders, path, &key, body).await {
                Ok(answer) if answer.status != StatusCode::SERVICE_UNAVAILABLE => return Ok(answer),
                busy => busy,
            };
            if begun.elapsed() >= PATIENCE {
                return busy;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    async fn publish(&self, scenario: Scenario, n: usize) -> Result<PlacedOrder, DemoError> {
        let id = Uuid::now_v7();
        let event = scenario.basket(n).into_event(id);
        let sent = Instant::now();
        self.publisher.publish(&event).await?;
        Ok(PlacedOrder { scenario, id, event, via: PlacedVia::Event, sent, shown: None })
    }

    /// Places an order and cancels it at once. If it was confirmed first, places another.
    async fn order_and_cancel(&self, n: usize) -> Result<Vec<PlacedOrder>, DemoError> {
        let mut placed = Vec::new();
        for _ in 0..CANCELLATIONS {
            let mut order = self.order(Scenario::CancelledByCustomer, n).await?;
            let answer = self.insist(&format!("/orders/{}/cancel", order.id), None).await?;
            match answer.status {
                StatusCode::ACCEPTED | StatusCode::OK => {
                    placed.push(order);
                    return Ok(placed);
                }
                StatusCode::CONFLICT => {
                    order.scenario = Scenario::Confirmed;
                    placed.push(order);
                }
                _ => return Err(answer.unexpected().into()),
            }
        }
        Ok(placed)
    }

    /// Reads the status of each order.
    pub(crate) async fn ask(&self, placed: &mut [PlacedOrder]) -> Result<(), DemoError> {
        for order in placed {
            let answer: HttpResponse = self.http.get(self.orders, &format!("/orders/{}", order.id)).await?;
            order.shown = Some(serde_json::from_value(answer.expect(StatusCode::OK)?)?);
        }
        Ok(())
    }
}

fn joined(
    done: Result<Result<Vec<PlacedOrder>, DemoError>, tokio::task::JoinError>,
) -> Result<Vec<PlacedOrder>, DemoError> {
    done.map_err(DemoError::Panicked)?
}
