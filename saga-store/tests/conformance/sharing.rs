//! Connections are few, and several services and many requests want them: the workers go on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use saga_core::{
    barrier::Op,
    event::SagaId,
    store::{Changes, Phase, Store, StoreError},
};
use saga_store::{ConnectError, DatabaseUrl, Db, tokio_postgres::Client};
use uuid::Uuid;

use crate::support::{PATIENCE, admission, postgres_url, raw};

/// Rights on a database are one row of the server's: two tests that change them at once fail. Held until the statements end.
const ONE_AT_A_TIME: &str = "SELECT pg_advisory_xact_lock(7226421)";

/// A user that may have only so many connections, as on a server that is shared.
struct Limited {
    name: String,
    url: String,
    admin: Client,
}

impl Limited {
    async fn to(connections: u32) -> Option<Self> {
        let url = postgres_url()?;
        let admin = raw(&url).await;
        let name = format!("test_{}", Uuid::new_v4().simple());
        let create = format!(
            "{ONE_AT_A_TIME}; CREATE ROLE {name} LOGIN PASSWORD 'limited' CONNECTION LIMIT {connections};
             DO $do$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {name}', current_database()); END $do$"
        );
        admin.batch_execute(&create).await.unwrap();
        let start = url.find("://").unwrap() + 3;
        let host = url[start..].find('@').map_or(start, |at| start + at + 1);
        let url = format!("{}{name}:limited@{}", &url[..start], &url[host..]);
        Some(Self { name, url, admin })
    }

    /// A service of this user, with tables of its own.
    async fn service(&self, i: usize) -> Db {
        let url: DatabaseUrl = self.url.parse().unwrap();
        let db = Db::open(url, &format!("{}_{i}", self.name), &[]).unwrap();
        loop {
            match db.prepare().await {
                Ok(()) => return db,
                // What one service has just closed, the server may still count.
                Err(ConnectError::Full(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn connections(&self) -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
        self.admin.query_one(count, &[&self.name]).await.unwrap().get(0)
    }

    async fn remove(self, services: Vec<Db>) {
        let names = (0..services.len()).map(|i| format!("DROP SCHEMA {}_{i} CASCADE;", self.name)).collect::<String>();
        drop(services);
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'", self.name);
        let owned = format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name);
        self.admin.batch_execute(&format!("{ONE_AT_A_TIME}; {end}; {names} {owned}")).await.unwrap();
    }
}

async fn request(db: &Db) -> Result<(), StoreError> {
    db.transaction(async |tx| {
        tx.query("SELECT CAST(pg_sleep(0.005) AS text) AS slept", []).await?;
        Ok((tx, (), Vec::new()))
    })
    .await
}

async fn one_event(db: &Db) -> Result<(), StoreError> {
    let (tx, _) = db.begin(&[admission(SagaId::random(), Op::Action, Phase::Whole)], PATIENCE).await?;
    db.commit(tx, Changes::default()).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_requests_to_four_services_on_fourteen_connections_leaves_their_workers_working() {
    let Some(user) = Limited::to(14).await else { return };
    let services: Vec<Db> = join_all((0..4).map(|i| user.service(i))).await;
    let over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU32::new(0));
    let burst = |db: &Db| {
        let (db, over, served) = (db.clone(), over.clone(), served.clone());
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                if request(&db).await.is_ok() {
                    served.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    let clients: Vec<_> = services.iter().flat_map(|db| (0..40).map(|_| burst(db)).collect::<Vec<_>>()).collect();
    while served.load(Ordering::Relaxed) < 100 {
        tokio::task::yield_now().await;
    }
    let work = services.iter().map(async |db| {
        let began = Instant::now();
        for _ in 0..50 {
            one_event(db).await.unwrap();
            db.unsent(0, Duration::ZERO, 10).await.unwrap();
        }
        began.elapsed()
    });
    let took = join_all(work).await;
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    println!("50 events each took the workers {took:?}, beside {} requests", served.load(Ordering::Relaxed));
    // What the burst opened is there for whoever comes next.
    while user.connections().await > 8 {
        tokio::task::yield_now().await;
    }
    for db in &services {
        request(db).await.unwrap();
    }
    user.remove(services).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_of_requests_are_given_back_and_the_workers_is_kept() {
    let Some(user) = Limited::to(20).await else { return };
    let services = vec![user.service(0).await];
    for result in join_all((0..30).map(|_| request(&services[0]))).await {
        result.unwrap();
    }
    assert!(user.connections().await > 1);
    let began = Instant::now();
    while user.connections().await > 1 {
        assert!(began.elapsed() < Duration::from_secs(20), "{} connections stay", user.connections().await);
    }
    one_event(&services[0]).await.unwrap();
    request(&services[0]).await.unwrap();
    assert_eq!(user.connections().await, 2, "the worker's was there all the time");
    user.remove(services).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_refused_a_connection_takes_one_of_its_own_process() {
    let Some(user) = Limited::to(2).await else { return };
    let services = vec![user.service(0).await];
    let db = &services[0];
    let held = loop {
        // Until the server has forgotten those that looked at it first.
        if let Ok(tx) = db.begin_plain().await {
            break tx;
        }
    };
    let (first, _) = db.begin(&[], PATIENCE).await.unwrap();
    assert_eq!(user.connections().await, 2);
    let (second, freed) = futures::join!(db.unsent(0, Duration::ZERO, 10), async {
        tokio::task::yield_now().await;
        drop(held);
        Instant::now()
    });
    second.unwrap();
    assert!(freed.elapsed() < Duration::from_secs(2), "it waited for the request to end: {:?}", freed.elapsed());
    drop(first);
    user.remove(services).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_gets_no_connection_says_so_and_why() {
    let Some(user) = Limited::to(1).await else { return };
    let services = vec![user.service(0).await];
    let db = &services[0];
    // Somebody else gets the only place there is.
    let end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = $1";
    user.admin.query(end, &[&user.name]).await.unwrap();
    let other = raw(&user.url).await;
    let error = loop {
        let began = Instant::now();
        let error = db.unsent(0, Duration::ZERO, 10).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        // That its own connection has ended, it may have to find out first.
        if error.to_string().contains("no more connections") {
            break error;
        }
    };
    assert!(error.to_string().contains("SQLSTATE 53300"), "{error}");
    drop(other);
    while db.unsent(0, Duration::ZERO, 10).await.is_err() {}
    user.remove(services).await;
}
