//! The exporter on a thread with an async runtime of its own, which gRPC needs: the batch processor's thread only waits.

use std::{
    io,
    sync::{Arc, mpsc as blocking},
    thread,
    time::Duration,
};

use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{self, SpanData},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::dispatcher::{self, Dispatch};

use super::{
    rejected::Rejected,
    tally::{Reason, Tally},
    transport,
};
use crate::{config::Export, error::ServiceError};

/// A batch, and who waits for what becomes of it.
type Job = (Vec<SpanData>, oneshot::Sender<OTelSdkResult>);

/// What the batch processor exports to.
#[derive(Debug)]
pub(super) struct Exporter {
    jobs: mpsc::Sender<Job>,
    tally: Arc<Tally>,
}

/// Ends the exporter's thread when it is dropped, also in the middle of a request.
#[derive(Debug)]
pub(super) struct Stop {
    _dropped: oneshot::Sender<()>,
}

impl Exporter {
    pub(super) fn start(export: &Export, resource: Resource, tally: Arc<Tally>) -> Result<(Self, Stop), ServiceError> {
        let (jobs, received) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = blocking::sync_channel(1);
        let (export, counted) = (export.clone(), tally.clone());
        let run = move || {
            // Of what the thread does nothing is logged or traced: at the level of traces, libraries log headers, some of
            // which are secrets. What went wrong is in the result.
            let quiet = Dispatch::new(Rejected::new(counted.clone()));
            dispatcher::with_default(&quiet, || match assemble(&export, &resource, counted.reason.clone()) {
                Ok((runtime, exporter)) => {
                    let _ = ready.send(Ok(()));
                    runtime.block_on(serve(&exporter, export.timeout, received, stopped));
                    // A name that is being resolved is not waited for.
                    runtime.shutdown_background();
                }
                Err(error) => drop(ready.send(Err(error))),
            });
        };
        let no_thread = |error| ServiceError::System("no thread for traces", error);
        thread::Builder::new().name("traces".to_owned()).spawn(run).map_err(no_thread)?;
        started.recv().map_err(|_| no_thread(io::ErrorKind::BrokenPipe.into()))??;
        Ok((Self { jobs, tally }, Stop { _dropped: stop }))
    }

    /// None once the exporter has been stopped.
    async fn send(&self, batch: Vec<SpanData>) -> Option<OTelSdkResult> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send((batch, reply)).await.ok()?;
        tokio::select! {
            biased;
            answer = answer => answer.ok(),
            // A job that is handed over at the very moment of the end may never be looked at.
            () = self.jobs.closed() => None,
        }
    }
}

impl trace::SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.tally.left(spans);
        match self.send(batch).await {
            Some(Ok(())) => self.tally.succeeded(spans),
            Some(Err(error)) => self.tally.failed(spans, &error),
            None if self.tally.has_ended() => self.tally.lost(spans),
            None => self.tally.failed(spans, &"the thread that exports them has ended; it starts with the process"),
        }
        // It is logged already, once, and not for every batch.
        Ok(())
    }
}

fn assemble(export: &Export, resource: &Resource, reason: Reason) -> Result<(Runtime, SpanExporter), ServiceError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| ServiceError::System("no async runtime for traces", error))?;
    let mut exporter = runtime.block_on(async { transport::exporter(export, reason) })?;
    trace::SpanExporter::set_resource(&mut exporter, resource);
    Ok((runtime, exporter))
}

async fn serve(
    exporter: &SpanExporter,
    patience: Duration,
    mut jobs: mpsc::Receiver<Job>,
    mut stopped: oneshot::Receiver<()>,
) {
    while let Some((batch, reply)) = jobs.recv().await {
        let result = tokio::select! {
            result = timeout(patience, trace::SpanExporter::export(exporter, batch)) => {
                result.unwrap_or(Err(OTelSdkError::Timeout(patience)))
            }
            _ = &mut stopped => {
                // The processor hands over no other batch before it has the result of this one.
                jobs.close();
                return;
            }
        };
        // A caller that stopped waiting has counted it.
        let _ = reply.send(result);
    }
}
