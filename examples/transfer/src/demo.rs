//! The flow in one process, on the embedded broker and SQLite: transfers of every ending, all at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    future::pending,
    path::PathBuf,
    time::Duration,
};

use saga::{
    database::DatabaseUrl,
    kafka::{EmbeddedBroker, KafkaConsumer, Publisher},
    prelude::*,
    service::Config,
    store::{Changes, Store, StoreError},
    tools::event,
    transport::{Consumer, Signal},
};
use tokio::time::timeout;

use crate::{
    books::{Books, Ending, Evidence, Notes},
    events::TransferRequested,
    payee, payer,
};

/// How long no event may come while transfers are in flight.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the topics are read after the last end, for an end too many.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// One transfer.
const CENTS: i64 = 100;
/// More than all transfers together.
const RICH: i64 = 100_000_000;

/// A folder that is removed with the value.
struct Folder(PathBuf);

impl Folder {
    fn create() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("transfer-{}", Uuid::now_v7()));
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

/// Runs this many transfers and returns what they have left.
///
/// # Errors
/// When the flow cannot run: a folder, a port or a thread is not to be had.
pub async fn run(transfers: usize) -> Result<Evidence, Box<dyn Error>> {
    let Mix { requests, expected, cover } = mix(transfers);
    let folder = Folder::create()?;
    let payer = bank(&folder, "payer", payer::MIGRATIONS).await?;
    let payee = bank(&folder, "payee", payee::MIGRATIONS).await?;
    open_accounts(&payer, "INSERT INTO accounts (account, cents) VALUES ('ada', $1), ('bob', $2)", [RICH, cover])
        .await?;
    open_accounts(
        &payee,
        "INSERT INTO accounts (account, cents, closed) VALUES ('shop', $1, FALSE), ('gone', $2, TRUE)",
        [0, 0],
    )
    .await?;
    let before = Books::read(&payer, &payee).await?.total();

    let topics = ["transfer.events", "payer.events", "payee.events", "payer.dlq", "payee.dlq"].map(str::to_owned);
    let broker = EmbeddedBroker::start(&topics, 6)?;
    let mut services = tokio::task::JoinSet::new();
    for service in [payer::service(), payee::service()] {
        let any_port = "127.0.0.1:0".parse()?;
        let config = Config::new(any_port, folder.url(service.name())?, broker.config(), NoArgs {});
        services.spawn(service.run_until(config, pending()));
    }
    for published in Publisher::new(&broker.config(), "transfer-demo")?.publish_all(&requests).await {
        published?;
    }

    let mut ends: BTreeMap<Uuid, Vec<Ending>> = requests.iter().map(|r| (r.transfer_id, Vec::new())).collect();
    let (mut open, mut seen, mut meanwhile, mut dead_letters) = (ends.len(), BTreeSet::new(), Vec::new(), 0);
    let mut observer = KafkaConsumer::subscribe(&broker.config(), "transfer-demo", &topics)?;
    loop {
        let patience = if open > 0 { PATIENCE } else { AFTERWARDS };
        let signal = tokio::select! {
            signal = timeout(patience, observer.next(100)) => signal,
            Some(ended) = services.join_next() => return Err(format!("a bank has ended: {ended:?}").into()),
        };
        // Nothing more comes.
        let Ok(signal) = signal else { break };
        let Signal::Records(records) = signal else { continue };
        for record in records {
            if event::is_dead_letter(&record) {
                dead_letters += 1;
                continue;
            }
            let event = event::read(&record, None).map_err(|poison| format!("{poison:?}"))?;
            // After a crash an event may be there twice, under one id.
            let is_new = seen.insert(event.identity);
            if let (true, Some(ending), Some(known)) = (is_new, Ending::of(&event.kind), ends.get_mut(&event.saga)) {
                open -= usize::from(known.is_empty());
                known.push(ending);
            }
        }
        meanwhile.push(Books::read(&payer, &payee).await?);
    }
    let (books, notes) = (Books::read(&payer, &payee).await?, Notes::read(&payer, &payee).await?);
    Ok(Evidence { before, expected, ends, books, notes, meanwhile, dead_letters })
}

struct Mix {
    requests: Vec<TransferRequested>,
    expected: BTreeMap<Ending, usize>,
    /// What is on the account that pays for every other transfer only.
    cover: i64,
}

/// Of six transfers, two are from an account with cover for one of them, and one is to a closed account.
fn mix(transfers: usize) -> Mix {
    let request = |i: usize| {
        let (from, to) = match i % 6 {
            0 | 1 => ("bob", "shop"),
            2 => ("ada", "gone"),
            _ => ("ada", "shop"),
        };
        TransferRequested { transfer_id: Uuid::now_v7(), from: from.to_owned(), to: to.to_owned(), cents: CENTS }
    };
    let requests: Vec<_> = (0..transfers).map(request).collect();
    let count = |of: fn(&TransferRequested) -> bool| requests.iter().filter(|request| of(request)).count();
    let (from_bob, to_gone) = (count(|r| r.from == "bob"), count(|r| r.to == "gone"));
    let covered = from_bob / 2;
    let expected = [
        (Ending::Credited, transfers - to_gone - (from_bob - covered)),
        (Ending::NoCover, from_bob - covered),
        (Ending::Refunded, to_gone),
    ];
    Mix { requests, expected: expected.into(), cover: i64::try_from(covered).unwrap_or(i64::MAX / CENTS) * CENTS }
}

/// A bank's database, as its service will open it.
async fn bank(folder: &Folder, name: &'static str, migrations: &'static [Migration]) -> Result<Db, Box<dyn Error>> {
    Ok(Db::connect(folder.url(name)?, name, migrations).await?)
}

async fn open_accounts(db: &Db, sql: &'static str, cents: [i64; 2]) -> Result<(), StoreError> {
    let tx = db.begin_plain().await?;
    tx.execute(sql, params![cents[0], cents[1]]).await?;
    db.commit(tx, Changes::default()).await.map(|_| ())
}
