//! The six services and the broker of the demonstration, in this process.

use std::{error::Error, fs, future::pending, path::PathBuf, sync::mpsc};

use saga::{
    database::{DatabaseUrl, Outbox},
    kafka::{EmbeddedBroker, KafkaConfig},
    prelude::*,
    service::Config,
    store::{Changes, Store},
};
use tokio::task::JoinSet;

use super::customers::{CENTS, DEAR, FREE, FULL};
use crate::{
    books::Databases,
    car, flight, hotel, mail, payment, places,
    trip::{self, Waits},
};

const PARTICIPANTS: [&str; 6] = ["trip", "flight", "hotel", "car", "payment", "mail"];

/// A folder that is removed with the value.
struct Folder(PathBuf);

impl Folder {
    fn create() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("travel-{}", Uuid::now_v7()));
        fs::create_dir(&path).map(|()| Self(path))
    }

    fn url(&self, participant: &str) -> Result<DatabaseUrl, Box<dyn Error>> {
        Ok(format!("sqlite://{}", self.0.join(participant).with_extension("db").display()).parse()?)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Everything that runs.
pub(super) struct World {
    broker: EmbeddedBroker,
    services: JoinSet<Result<(), ServiceError>>,
    databases: Databases,
    /// The places of each provider.
    places: i64,
    outbox: Outbox,
    _folder: Folder,
}

impl World {
    /// Starts the services, with as many places of each kind as there are trips.
    pub(super) async fn start(waits: Waits, trips: usize) -> Result<Self, Box<dyn Error>> {
        let folder = Folder::create()?;
        let places = i64::try_from(trips)?;
        let databases = Databases {
            trip: Db::connect(folder.url("trip")?, "trip", trip::MIGRATIONS).await?,
            places: [
                provider(&folder, "flight", places).await?,
                provider(&folder, "hotel", places).await?,
                provider(&folder, "car", places).await?,
            ],
            payment: Db::connect(folder.url("payment")?, "payment", payment::MIGRATIONS).await?,
            mail: Db::connect(folder.url("mail")?, "mail", mail::MIGRATIONS).await?,
        };
        let broker = EmbeddedBroker::start(&topics(), 6)?;
        let (send, outbox) = mpsc::channel();
        let trip = trip::service(waits).routes(move |deps| {
            // A customer's request comes over HTTP; here it comes from this process.
            let _ = send.send(deps.outbox.clone());
            Router::new()
        });
        let mut services = JoinSet::new();
        let others = [flight::service(), hotel::service(), car::service(), payment::service(), mail::service()];
        for service in [trip].into_iter().chain(others) {
            let any_port = "127.0.0.1:0".parse()?;
            let config = Config::new(any_port, folder.url(service.name())?, broker.config(), NoArgs {});
            let bound = service.bind(config).await?;
            services.spawn(bound.run(pending()));
        }
        Ok(Self { broker, services, databases, places: 2 * places, outbox: outbox.recv()?, _folder: folder })
    }

    pub(super) fn kafka(&self) -> KafkaConfig {
        self.broker.config()
    }

    pub(super) fn topics(&self) -> Vec<String> {
        topics()
    }

    pub(super) fn databases(&self) -> &Databases {
        &self.databases
    }

    pub(super) fn places(&self) -> [i64; 3] {
        [self.places; 3]
    }

    /// For what a customer asks of a trip.
    pub(super) fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Waits until a service ends, which none should.
    pub(super) async fn ended(&mut self) -> String {
        match self.services.join_next().await {
            Some(ended) => format!("a service has ended: {ended:?}"),
            None => "there is no service".to_owned(),
        }
    }
}

/// A topic of events and one of dead letters for each.
fn topics() -> Vec<String> {
    PARTICIPANTS.iter().flat_map(|name| [format!("{name}.events"), format!("{name}.dlq")]).collect()
}

/// The database of whoever has places: some at the price that customers have seen, some that cost more, and none under a third name.
async fn provider(folder: &Folder, name: &'static str, places: i64) -> Result<Db, Box<dyn Error>> {
    let db = Db::connect(folder.url(name)?, name, places::MIGRATIONS).await?;
    let rows: Rows = [(FREE, places, CENTS), (DEAR, places, 2 * CENTS), (FULL, 0, CENTS)]
        .into_iter()
        .map(|(name, free, cents)| params![name, free, cents])
        .collect();
    let insert = "INSERT INTO places (name, free, cents) SELECT r.name, r.free, r.cents FROM
        :rows(name text, free bigint, cents bigint) r";
    let tx = db.begin_plain().await?;
    tx.execute_rows(insert, &rows, params![]).await?;
    db.commit(tx, Changes::default()).await?;
    Ok(db)
}
