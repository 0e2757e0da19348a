//! A door in front of the database: what goes through it can be cut at any moment.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Result;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Forwards connections to an address, as long as it is open.
pub struct Door {
    addr: SocketAddr,
    shut: Arc<AtomicBool>,
    connections: Arc<Mutex<JoinSet<()>>>,
}

impl Door {
    /// An open door to this host and port.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn to(behind: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let door = Self { addr: listener.local_addr()?, shut: Arc::default(), connections: Arc::default() };
        let (shut, connections) = (door.shut.clone(), door.connections.clone());
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                if shut.load(Ordering::Relaxed) {
                    continue;
                }
                let behind = behind.clone();
                let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
                connections.spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(behind).await {
                        let _ = to.set_nodelay(true);
                        let _ = from.set_nodelay(true);
                        // Whichever end breaks it, the other is told by its own end.
                        let _ = copy_bidirectional(&mut from, &mut to).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(door)
    }

    /// Where to knock.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Cuts every connection at once, wherever its bytes are, and lets nobody in when shut.
    pub fn cut(&self, shut: bool) {
        self.shut.store(shut, Ordering::Relaxed);
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// Lets everybody in again.
    pub fn open(&self) {
        self.shut.store(false, Ordering::Relaxed);
    }
}
