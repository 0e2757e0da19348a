//! A TCP proxy: what goes through it can be frozen or cut at any moment.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// What the proxy does with bytes and with new connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    /// Connections stay open and nothing gets through, as when the server hangs.
    Frozen,
    /// Every new connection is closed at once.
    Closed,
}

/// Forwards connections from an address of its own to a server.
pub struct Proxy {
    addr: SocketAddr,
    state: watch::Sender<State>,
    accepted: watch::Receiver<usize>,
    connections: Arc<Mutex<JoinSet<io::Result<()>>>>,
}

impl Proxy {
    /// An open proxy on a free port, to the server at this `host:port`.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn to(server: impl Into<String>) -> io::Result<Self> {
        Self::on(TcpListener::bind("127.0.0.1:0").await?, server)
    }

    /// An open proxy that listens here.
    ///
    /// # Errors
    /// When the listener has no address.
    pub fn on(listener: TcpListener, server: impl Into<String>) -> io::Result<Self> {
        let (addr, server) = (listener.local_addr()?, server.into());
        let (state, is) = watch::channel(State::Open);
        let (count, accepted) = watch::channel(0);
        let connections: Arc<Mutex<JoinSet<_>>> = Arc::default();
        let all = connections.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                if *is.borrow() == State::Closed {
                    continue;
                }
                let mut connections = all.lock().unwrap_or_else(PoisonError::into_inner);
                connections.spawn(forward(client, server.clone(), is.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { addr, state, accepted, connections })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits until somebody has connected.
    pub async fn connected(&self) {
        let _ = self.accepted.clone().wait_for(|accepted| *accepted > 0).await;
    }

    /// Lets nothing through, and keeps all connections, until it is [opened](Proxy::open).
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    /// Breaks every connection at once, wherever its bytes are. New ones are let in.
    pub fn cut(&self) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    /// Breaks every connection and lets nobody in, until it is [opened](Proxy::open).
    pub fn close(&self) {
        self.state.send_replace(State::Closed);
        self.cut();
    }

    /// Lets everybody and everything through again.
    pub fn open(&self) {
        self.state.send_replace(State::Open);
    }
}

async fn forward(client: TcpStream, server: String, state: watch::Receiver<State>) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    // Whichever end breaks it, the other is told by its own end.
    tokio::try_join!(pump(from_client, to_server, state.clone()), pump(from_server, to_client, state))?;
    Ok(())
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) -> io::Result<()> {
    let mut bytes = vec![0; 8192];
    loop {
        let read = from.read(&mut bytes).await?;
        // It fails when the proxy is gone, which then lets everything through.
        let _ = state.wait_for(|state| *state != State::Frozen).await;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&bytes[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::Proxy;

    /// A server that sends back what it receives, behind a proxy.
    async fn echo() -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = Proxy::to(listener.local_addr()?.to_string()).await?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut from, mut to) = stream.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from, &mut to).await });
            }
        });
        Ok(proxy)
    }

    async fn echoes(stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(b"ping").await?;
        stream.read_exact(&mut [0; 4]).await.map(drop)
    }

    #[tokio::test]
    async fn what_is_frozen_arrives_when_the_proxy_is_opened() -> io::Result<()> {
        let proxy = echo().await?;
        let mut stream = TcpStream::connect(proxy.addr()).await?;
        proxy.connected().await;
        echoes(&mut stream).await?;
        proxy.freeze();
        let frozen = tokio::time::timeout(Duration::from_millis(50), echoes(&mut stream)).await;
        assert!(frozen.is_err(), "{frozen:?}");
        proxy.open();
        stream.read_exact(&mut [0; 4]).await?;
        Ok(())
    }

    #[tokio::test]
    async fn what_is_cut_is_broken_and_who_comes_back_is_let_in_unless_it_is_closed() -> io::Result<()> {
        let proxy = echo().await?;
        let mut stream = TcpStream::connect(proxy.addr()).await?;
        echoes(&mut stream).await?;
        proxy.cut();
        assert!(echoes(&mut stream).await.is_err());
        echoes(&mut TcpStream::connect(proxy.addr()).await?).await?;
        proxy.close();
        assert!(echoes(&mut TcpStream::connect(proxy.addr()).await?).await.is_err());
        proxy.open();
        echoes(&mut TcpStream::connect(proxy.addr()).await?).await
    }
}
