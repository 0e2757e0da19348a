//! The HTTP server and the runtime, each in a task or thread of its own.

use std::{thread, time::Duration};

use axum::Router;
use futures::FutureExt;
use saga_core::{
    clock::Clock,
    record::TopicPartition,
    runtime::{RunError, Runtime},
    store::Store,
    transport::{Consumer, Producer, Signal},
};
use tokio::{sync::oneshot, task::JoinHandle};
use tracing::{Instrument, Span};

use crate::{
    error::ServiceError,
    http::{Server, Status},
};

/// Time for requests in flight once the service is told to stop.
const HTTP_GRACE: Duration = Duration::from_secs(3);
/// Time for the runtime to drain and for its consumer to leave the group.
const RUNTIME_GRACE: Duration = Duration::from_secs(5);

/// The HTTP server.
pub(crate) struct Web {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<usize>,
}

impl Web {
    pub(crate) fn start(server: Server, app: Router, span: &Span) -> Self {
        let (stop, told) = oneshot::channel();
        let serve = server.serve(app, told.map(|_| ()), HTTP_GRACE);
        Self { stop, ended: tokio::spawn(serve.instrument(span.clone())) }
    }

    /// Takes no new request and waits for those in flight.
    pub(crate) async fn stop(self) {
        // A server that is gone has stopped.
        let _ = self.stop.send(());
        match self.ended.await {
            Ok(0) => {}
            Ok(connections) => tracing::warn!(connections, "requests did not end in time"),
            Err(error) => tracing::error!(%error, "the HTTP server failed"),
        }
    }
}

/// The runtime, on a thread of its own because its handlers' futures are not `Send`.
pub(crate) struct Worker {
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), RunError>>,
}

impl Worker {
    pub(crate) fn start<S: Store, P: Producer, C: Clock>(
        name: &str,
        make: impl FnOnce() -> Runtime<S, P, C> + Send + 'static,
        consumer: impl Consumer,
        span: Span,
    ) -> Result<Self, ServiceError> {
        let refused = |error| ServiceError::System("no thread for the runtime", error);
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(refused)?;
        let (stop, told) = oneshot::channel::<()>();
        let (end, ended) = oneshot::channel();
        let body = move || {
            let run = async { make().run(consumer, told.map(|_| ())).await };
            // The receiver may be gone.
            let _ = end.send(executor.block_on(run.instrument(span)));
            // A blocking call that hangs must not keep the thread alive.
            executor.shutdown_background();
        };
        thread::Builder::new().name(format!("saga-{name}")).spawn(body).map_err(refused)?;
        Ok(Self { stop, ended })
    }

    /// Resolves when the runtime ends without being told to, which is a failure.
    pub(crate) async fn ended(&mut self) -> Result<(), ServiceError> {
        Err(ServiceError::Runtime(match (&mut self.ended).await {
            Ok(Err(RunError::Fatal(why))) => why,
            Ok(Ok(())) => "the runtime ended by itself".to_owned(),
            // The panic hook has logged the message.
            Err(_) => "the runtime panicked".to_owned(),
        }))
    }

    /// Stops the runtime, which finishes its events in flight.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        match tokio::time::timeout(RUNTIME_GRACE, self.ended).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "the runtime failed while it stopped"),
            Ok(Err(_)) => tracing::error!("the runtime panicked while it stopped"),
            Err(_) => {
                tracing::warn!("the runtime did not stop in time; its events in flight are redone at the next start")
            }
        }
    }
}

/// A consumer that marks the service as joined at its first assignment, even an empty one.
pub(crate) struct Joining<C> {
    consumer: C,
    status: Status,
}

impl<C> Joining<C> {
    pub(crate) fn new(consumer: C, status: Status) -> Self {
        Self { consumer, status }
    }
}

impl<C: Consumer> Consumer for Joining<C> {
    async fn next(&mut self, room: usize) -> Signal {
        let signal = self.consumer.next(room).await;
        if let Signal::Assigned(_) = signal {
            self.status.joined();
        }
        signal
    }

    fn store_offsets(&self, offsets: &[(TopicPartition, i64)]) {
        self.consumer.store_offsets(offsets);
    }

    fn pause(&self, partitions: &[TopicPartition], paused: bool) {
        self.consumer.pause(partitions, paused);
    }

    async fn close(self) {
        self.consumer.close().await;
    }
}
