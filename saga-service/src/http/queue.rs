//! Bounded queues: requests must not keep the participant's own work from the database.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{config::HttpConfig, json, problem::Problem};

/// After this wait a request is refused; another process may serve it sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// Limits how many run at once and how many wait.
#[derive(Clone)]
pub(crate) struct RequestQueue(Arc<Inside>);

struct Inside {
    /// Running or waiting.
    all: Semaphore,
    at_work: Semaphore,
    busy: &'static str,
}

impl RequestQueue {
    /// The queue for the database. At most half of the connection slots wait here, because a waiting request keeps its
    /// slot.
    pub(crate) fn for_requests(config: &HttpConfig, places: usize) -> Self {
        let (at_work, waiting) = (usize::from(config.concurrency), usize::from(config.queue));
        Self::new(at_work, (at_work + waiting).min(places / 2), "too many requests wait for the database")
    }

    /// The queue for `/metrics`, which takes a while to write: one at a time, and a few waiting.
    pub(super) fn for_scrapes() -> Self {
        Self::new(1, 8, "too many ask for metrics at once")
    }

    fn new(at_work: usize, all: usize, busy: &'static str) -> Self {
        Self(Arc::new(Inside { all: Semaphore::new(all), at_work: Semaphore::new(at_work), busy }))
    }

    /// Waits for a turn, first come first served.
    pub(super) async fn enter(&self) -> Result<[SemaphorePermit<'_>; 2], Problem> {
        let busy = || Problem::unavailable(self.0.busy);
        let place = self.0.all.try_acquire().map_err(|_| busy())?;
        match tokio::time::timeout(PATIENCE, self.0.at_work.acquire()).await {
            Ok(Ok(turn)) => Ok([place, turn]),
            _ => Err(busy()),
        }
    }
}

/// Runs a request when it is its turn, after its whole body has arrived: a slow caller delays no other.
pub(super) async fn wait(State(queue): State<RequestQueue>, request: Request, next: Next) -> Response {
    let request = match json::buffered(request).await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    match queue.enter().await {
        Ok(_turn) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}
