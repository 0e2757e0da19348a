//! Bounded queues, before the database first of all: what requests ask for must not keep the participant's own work from it.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{config::HttpConfig, json, problem::Problem};

/// Who has waited so long is served better by another process, or later.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lets so many in at once, and so many wait for it.
#[derive(Clone)]
pub(crate) struct RequestQueue(Arc<Inside>);

struct Inside {
    /// At work or waiting.
    all: Semaphore,
    at_work: Semaphore,
    busy: &'static str,
}

impl RequestQueue {
    /// Before the database. At most half of the places wait here: a connection that waits for us keeps its place.
    pub(crate) fn for_requests(config: &HttpConfig, places: usize) -> Self {
        let (at_work, waiting) = (usize::from(config.concurrency), usize::from(config.queue));
        Self::new(at_work, (at_work + waiting).min(places / 2), "too many requests wait for the database")
    }

    /// Before the metrics, which take a while to write: one at a time, and no more than monitoring needs.
    pub(super) fn for_scrapes() -> Self {
        Self::new(1, 8, "too many ask for metrics at once")
    }

    fn new(at_work: usize, all: usize, busy: &'static str) -> Self {
        Self(Arc::new(Inside { all: Semaphore::new(all), at_work: Semaphore::new(at_work), busy }))
    }

    /// A turn, first come first served.
    pub(super) async fn enter(&self) -> Result<[SemaphorePermit<'_>; 2], Problem> {
        let busy = || Problem::unavailable(self.0.busy);
        let place = self.0.all.try_acquire().map_err(|_| busy())?;
        match tokio::time::timeout(PATIENCE, self.0.at_work.acquire()).await {
            Ok(Ok(turn)) => Ok([place, turn]),
            _ => Err(busy()),
        }
    }
}

/// Lets a request through when it is its turn. Its body is here by then: a slow caller holds nobody up.
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
