//! A PostgreSQL that stops answering, or goes away, in the middle of things.

use std::{str::FromStr, sync::Arc};

use saga_core::store::{Changes, Store, StoreError};
use saga_store::{DatabaseUrl, Db, params};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::support::{Fixture, MIGRATIONS, postgres_url};

const NOTE: &str = "INSERT INTO note (id) VALUES ($1)";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wire {
    Open,
    /// Connections stay open and nothing gets through, as when the server is frozen.
    Frozen,
    Cut,
}

/// A line to the server that the test can freeze and cut.
struct Line {
    wire: Arc<watch::Sender<Wire>>,
    db: Db,
}

impl Line {
    async fn to(f: &Fixture) -> Self {
        let url = postgres_url().unwrap();
        let (start, rest) = url.split_once("://").unwrap();
        let (user, rest) = rest.split_once('@').map_or(("", rest), |(user, rest)| (user, rest));
        let (address, database) = rest.split_once('/').unwrap();
        let address = address.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let through = format!("{start}://{user}@{}/{database}", listener.local_addr().unwrap());
        let wire = Arc::new(watch::Sender::new(Wire::Open));
        let wires = wire.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&address).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(forward(near_in, far_out, wires.subscribe()));
                tokio::spawn(forward(far_in, near_out, wires.subscribe()));
            }
        });
        let db = Db::connect(DatabaseUrl::from_str(&through).unwrap(), &f.schema, MIGRATIONS).await.unwrap();
        Self { wire, db }
    }

    fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut wire: watch::Receiver<Wire>,
) {
    let mut cut = wire.clone();
    let pump = async {
        let mut bytes = [0; 8192];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            let _ = wire.wait_for(|wire| *wire == Wire::Open).await;
            if to.write_all(&bytes[..read]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = pump => {}
        _ = cut.wait_for(|wire| *wire == Wire::Cut) => {}
    }
}

fn unavailable<T>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Unavailable(_))), "{:?}", result.err());
}

#[tokio::test]
async fn a_server_that_freezes_is_unavailable_and_not_waited_for_for_ever() {
    let Some(f) = Fixture::postgres().await else { return };
    let line = Line::to(&f).await;
    let (tx, idle) = (line.db.begin_plain().await.unwrap(), line.db.begin_plain().await.unwrap());
    tx.execute(NOTE, params!["lost"]).await.unwrap();
    drop(idle);
    line.set(Wire::Frozen);
    // From here on, waiting takes no time.
    tokio::time::pause();
    unavailable(tx.execute(NOTE, params!["hangs"]).await);
    unavailable(line.db.begin_plain().await);
    unavailable(line.db.summary().await);
    unavailable(line.db.commit(tx, Changes::default()).await);
    tokio::time::resume();
    line.set(Wire::Open);
    line.db.summary().await.unwrap();
    assert_eq!(f.count("SELECT count(*) FROM note").await, 0);
}

#[tokio::test]
async fn a_connection_that_breaks_is_unavailable_and_the_next_one_works() {
    let Some(f) = Fixture::postgres().await else { return };
    let line = Line::to(&f).await;
    let tx = line.db.begin_plain().await.unwrap();
    tx.execute(NOTE, params!["lost"]).await.unwrap();
    line.set(Wire::Cut);
    unavailable(tx.execute(NOTE, params!["cut"]).await);
    unavailable(line.db.commit(tx, Changes::default()).await);
    line.set(Wire::Open);
    let tx = line.db.begin_plain().await.unwrap();
    tx.execute(NOTE, params!["kept"]).await.unwrap();
    line.db.commit(tx, Changes::default()).await.unwrap();
    assert_eq!(f.count("SELECT count(*) FROM note").await, 1);
}

#[tokio::test]
async fn a_session_that_the_server_ends_is_unavailable_and_the_next_one_works() {
    let Some(f) = Fixture::postgres().await else { return };
    let other = f.another().await;
    for _ in 0..2 {
        let tx = f.db.begin_plain().await.unwrap();
        other
            .query(
                "SELECT pg_terminate_backend(pid) AS ended FROM pg_stat_activity
                 WHERE application_name = current_schema() AND pid <> pg_backend_pid()",
                [],
            )
            .await
            .unwrap();
        unavailable(tx.execute(NOTE, params!["lost"]).await);
    }
    f.db.summary().await.unwrap();
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_is_ended_and_lets_go_of_its_locks() {
    const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND application_name = current_schema()";
    let Some(f) = Fixture::postgres().await else { return };
    let holder = f.db.begin_plain().await.unwrap();
    holder.execute("UPDATE stock SET available = 1", []).await.unwrap();
    // More often than there are connections.
    for _ in 0..10 {
        let tx = f.db.begin_plain().await.unwrap();
        tx.execute(NOTE, params!["locked"]).await.unwrap();
        let mut waits = Box::pin(tx.execute("UPDATE stock SET available = 2", []));
        while f.count(WAITING).await == 0 {
            assert!(futures::poll!(&mut waits).is_pending());
        }
        drop(waits);
        drop(tx);
        while f.count(WAITING).await > 0 {}
    }
    f.db.commit(holder, Changes::default()).await.unwrap();
    let tx = f.db.begin_plain().await.unwrap();
    tx.execute(NOTE, params!["locked"]).await.unwrap();
    drop(tx);
    assert_eq!(f.count("SELECT available FROM stock").await, 1);
}
