//! The accept loop for HTTP/1.1 connections, as many as there are slots.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tracing::Instrument;

use super::{
    connection,
    connection_slots::{ConnectionSlot, ConnectionSlots},
    connection_state::{ConnectionState, Limits},
};

/// Pause after a failed accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener with its limits.
pub(crate) struct Server {
    pub(crate) listener: TcpListener,
    pub(crate) slots: Arc<ConnectionSlots>,
    pub(crate) limits: Limits,
}

impl Server {
    /// Serves until `stop`, then lets requests in flight finish for at most `grace`. Returns the number of connections
    /// that did not.
    pub(crate) async fn serve(self, app: Router, stop: impl Future<Output = ()>, grace: Duration) -> usize {
        let graceful = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let (stream, state, slot) = tokio::select! {
                accepted = self.accept() => match accepted {
                    Some(accepted) => accepted,
                    None => continue,
                },
                () = &mut stop => break,
            };
            let connection = connection::serve(stream, app.clone(), state, graceful.watcher());
            let connection = async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended early");
                }
                drop(slot);
            };
            tokio::spawn(connection.in_current_span());
        }
        let Self { listener, slots, .. } = self;
        drop(listener);
        match tokio::time::timeout(grace, graceful.shutdown()).await {
            Ok(()) => 0,
            Err(_) => slots.evict_all(),
        }
    }

    /// The next connection and its slot; none when accepting failed.
    async fn accept(&self) -> Option<(TcpStream, Arc<ConnectionState>, ConnectionSlot)> {
        match self.listener.accept().await {
            Ok((stream, _)) => {
                let state = Arc::new(ConnectionState::new(self.limits));
                let slot = self.slots.take(state.clone()).await;
                Some((stream, state, slot))
            }
            Err(error) => {
                refused(&error).await;
                None
            }
        }
    }
}

/// Logs a failed accept, unless its own client caused it, and pauses.
async fn refused(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::warn!(%error, "connections cannot be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
