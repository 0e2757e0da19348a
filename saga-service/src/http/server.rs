//! The accept loop: HTTP/1.1 connections, as many as there are places for.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tracing::Instrument;

use super::{
    connection,
    places::{Place, Places},
    progress::{Limits, Progress},
};

/// After an accept that failed for want of something, file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a service is served, and how long its callers are waited for.
pub(crate) struct Server {
    pub(crate) listener: TcpListener,
    pub(crate) places: Arc<Places>,
    pub(crate) limits: Limits,
}

impl Server {
    /// Serves until `stop`, then lets the requests in flight finish, for at most `grace`. Tells how many did not.
    pub(crate) async fn serve(self, app: Router, stop: impl Future<Output = ()>, grace: Duration) -> usize {
        let graceful = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let (stream, progress, place) = tokio::select! {
                accepted = self.accept() => match accepted {
                    Some(accepted) => accepted,
                    None => continue,
                },
                () = &mut stop => break,
            };
            let connection = connection::serve(stream, app.clone(), progress, graceful.watcher());
            let connection = async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended early");
                }
                drop(place);
            };
            tokio::spawn(connection.in_current_span());
        }
        let Self { listener, places, .. } = self;
        drop(listener);
        match tokio::time::timeout(grace, graceful.shutdown()).await {
            Ok(()) => 0,
            Err(_) => places.free_all(),
        }
    }

    /// The next connection, and its place. A failure to accept it leaves room for the next.
    async fn accept(&self) -> Option<(TcpStream, Arc<Progress>, Place)> {
        match self.listener.accept().await {
            Ok((stream, _)) => {
                let progress = Arc::new(Progress::new(self.limits));
                let place = self.places.take(progress.clone()).await;
                Some((stream, progress, place))
            }
            Err(error) => {
                refused(&error).await;
                None
            }
        }
    }
}

/// An accept may fail because of one caller, or because the process is out of something.
async fn refused(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::warn!(%error, "connections cannot be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
