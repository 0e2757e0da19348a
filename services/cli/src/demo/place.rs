//! Placing orders as customers and other programs do: over HTTP, as events, and calling some of them off.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use hyper::StatusCode;
use order_flow_events::OrderCreated;
use saga_kafka::Publisher;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{task::JoinSet, time::MissedTickBehavior};
use uuid::Uuid;

use super::{
    DemoError,
    ending::Ending,
    http::{Answer, Http, HttpError},
};

/// A cancellation may come too late; then another order is tried.
const CANCELLATIONS: usize = 50;
/// Requests at the same time. Whoever asks for a higher rate than the machine has gets what it has.
const AT_ONCE: usize = 64;
/// A service that is busy, or starting, is asked again for so long.
const PATIENCE: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Of the orders that are to be confirmed, every so many is published as an event.
const EVERY_NTH_AS_EVENT: usize = 5;

/// How an order came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Via {
    Http,
    Event,
}

/// What `GET /orders/{id}` says.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Shown {
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
}

/// An order that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) ending: Ending,
    pub(crate) id: Uuid,
    pub(crate) event: OrderCreated,
    pub(crate) via: Via,
    pub(crate) sent: Instant,
    /// Its status in the end.
    pub(crate) shown: Option<Shown>,
}

impl Placed {
    /// The status it should have in the end.
    pub(crate) fn status(&self) -> &'static str {
        if self.ending.reason().is_none() { "confirmed" } else { "cancelled" }
    }

    /// The reason it should have in the end.
    pub(crate) fn reason(&self) -> Option<String> {
        self.ending.reason().map(|reason| reason.as_str().to_owned())
    }
}

/// Places orders at the order service, or at the broker.
#[derive(Clone)]
pub(crate) struct Customers {
    pub(crate) http: Http,
    pub(crate) orders: SocketAddr,
    pub(crate) publisher: Publisher,
}

impl Customers {
    /// Places one order for each of the endings, this many per second, and tells of each that is placed.
    pub(crate) async fn place(
        &self,
        endings: &[Ending],
        rate: f64,
        mut tell: impl FnMut(usize),
    ) -> Result<Vec<Placed>, DemoError> {
        let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut tasks, mut placed, mut confirmed) = (JoinSet::new(), Vec::new(), 0);
        for (n, ending) in endings.iter().copied().enumerate() {
            pace.tick().await;
            while tasks.len() >= AT_ONCE
                && let Some(done) = tasks.join_next().await
            {
                placed.extend(joined(done)?);
            }
            let customers = self.clone();
            confirmed += usize::from(ending == Ending::Confirmed);
            let as_event = ending == Ending::Confirmed && confirmed % EVERY_NTH_AS_EVENT == 1;
            tasks.spawn(async move {
                match ending {
                    Ending::CancelledByCustomer => customers.order_and_cancel(n).await,
                    _ if as_event => customers.publish(ending, n).await.map(|placed| vec![placed]),
                    _ => customers.order(ending, n).await.map(|placed| vec![placed]),
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

    async fn order(&self, ending: Ending, n: usize) -> Result<Placed, DemoError> {
        let basket = ending.basket(n);
        let body = serde_json::to_value(&basket)?;
        let sent = Instant::now();
        let answer = self.insist("/orders", Some(&body)).await?.expect(StatusCode::ACCEPTED)?;
        let id = answer.get("order_id").and_then(Value::as_str).and_then(|id| id.parse().ok());
        let id: Uuid = id.ok_or_else(|| DemoError::NoOrder(answer.to_string()))?;
        Ok(Placed { ending, id, event: basket.into_event(id), via: Via::Http, sent, shown: None })
    }

    /// Asks again as long as the service is busy. The idempotency key stays the same, so no order is made twice.
    async fn insist(&self, path: &str, body: Option<&Value>) -> Result<Answer, HttpError> {
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

    async fn publish(&self, ending: Ending, n: usize) -> Result<Placed, DemoError> {
        let id = Uuid::now_v7();
        let event = ending.basket(n).into_event(id);
        let sent = Instant::now();
        self.publisher.publish(&event).await?;
        Ok(Placed { ending, id, event, via: Via::Event, sent, shown: None })
    }

    /// An order that is called off at once. One that was confirmed first stays so, and another one is tried.
    async fn order_and_cancel(&self, n: usize) -> Result<Vec<Placed>, DemoError> {
        let mut placed = Vec::new();
        for _ in 0..CANCELLATIONS {
            let mut order = self.order(Ending::CancelledByCustomer, n).await?;
            let answer = self.insist(&format!("/orders/{}/cancel", order.id), None).await?;
            match answer.status {
                StatusCode::ACCEPTED | StatusCode::OK => {
                    placed.push(order);
                    return Ok(placed);
                }
                StatusCode::CONFLICT => {
                    order.ending = Ending::Confirmed;
                    placed.push(order);
                }
                _ => return Err(answer.unexpected().into()),
            }
        }
        Ok(placed)
    }

    /// Asks for the status of each order.
    pub(crate) async fn ask(&self, placed: &mut [Placed]) -> Result<(), DemoError> {
        for order in placed {
            let answer: Answer = self.http.get(self.orders, &format!("/orders/{}", order.id)).await?;
            order.shown = Some(serde_json::from_value(answer.expect(StatusCode::OK)?)?);
        }
        Ok(())
    }
}

fn joined(done: Result<Result<Vec<Placed>, DemoError>, tokio::task::JoinError>) -> Result<Vec<Placed>, DemoError> {
    done.map_err(DemoError::Panicked)?
}
