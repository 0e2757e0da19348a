//! The participants' databases in memory, with a few places in them, and requests.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(dead_code, reason = "each test program uses some of it")]

use std::time::Duration;

use saga::{
    prelude::*,
    store::{Changes, Store},
};
use travel::{
    books::Databases,
    car,
    events::{TripRequested, Wanted},
    flight, hotel, mail, payment, places,
    trip::{self, Waits},
};

pub(crate) const ID: Uuid = Uuid::from_u128(1);
pub(crate) const WAITS: Waits =
    Waits { end: Duration::from_secs(60), places: Duration::from_secs(30), answer: Duration::from_secs(2) };

/// After this time what was due is done: deadlines and rounds are looked for about once a second.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// The number of places of each provider.
pub(crate) const PLACES: i64 = 200;

/// A trip in which everything goes well.
pub(crate) fn requested() -> TripRequested {
    let wanted = || Wanted { name: "free".to_owned(), quoted_cents: 100 };
    TripRequested {
        trip_id: ID,
        flight: wanted(),
        hotel: wanted(),
        car: wanted(),
        card: "good".to_owned(),
        patience_ms: 60_000,
    }
}

pub(crate) async fn in_memory(name: &str, migrations: &'static [Migration]) -> Db {
    Db::connect("sqlite::memory:".parse().unwrap(), name, migrations).await.unwrap()
}

/// A provider with free places for 100 cents, others for 200, and none that are called otherwise.
pub(crate) async fn provider(name: &str) -> Db {
    let db = in_memory(name, places::MIGRATIONS).await;
    let half = PLACES / 2;
    execute(&db, "INSERT INTO places (name, free, cents) VALUES ('free', $1, 100), ('dear', $1, 200)", params![half])
        .await;
    db
}

pub(crate) async fn execute(db: &Db, sql: &'static str, params: impl AsRef<[saga::database::Value]>) {
    let tx = db.begin_plain().await.unwrap();
    tx.execute(sql, params).await.unwrap();
    db.commit(tx, Changes::default()).await.unwrap();
}

pub(crate) async fn databases() -> Databases {
    Databases {
        trip: in_memory("trip", trip::MIGRATIONS).await,
        places: [provider("flight").await, provider("hotel").await, provider("car").await],
        payment: in_memory("payment", payment::MIGRATIONS).await,
        mail: in_memory("mail", mail::MIGRATIONS).await,
    }
}

/// All participants on these databases and this broker.
pub(crate) fn flow(databases: &Databases, broker: &MemoryBroker) -> Flow<Db> {
    let Databases { trip, places: [flight_db, hotel_db, car_db], payment, mail } = databases.clone();
    let members = [
        (trip::participant(WAITS), trip),
        (flight::participant(), flight_db),
        (hotel::participant(), hotel_db),
        (car::participant(), car_db),
        (payment::participant(), payment),
        (mail::participant(), mail),
    ];
    Flow::on(members).on_broker(broker)
}
