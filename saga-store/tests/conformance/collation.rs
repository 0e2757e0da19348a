//! A database whose texts sort as a language does: keys do not, and who has others is told.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use saga_core::{
    barrier::{Op, Verdict},
    event::SagaId,
    store::{Changes, Phase, Store},
};
use saga_store::{Db, Migration};
use uuid::Uuid;

use crate::support::{append, commit, postgres_url, raw, run};

const MENDED: &[Migration] = &[
    Migration { name: "stock", sql: "CREATE TABLE stock (sku text PRIMARY KEY, name text)" },
    Migration { name: "bytes", sql: "-- only PostgreSQL\nALTER TABLE stock ALTER COLUMN sku TYPE text COLLATE \"C\"" },
];
const CAPITALS: &[Migration] =
    &[Migration { name: "stock", sql: "CREATE TABLE stock (sku text PRIMARY KEY, name text, UNIQUE (name, sku))" }];

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is said while a participant with these migrations starts.
async fn said(url: &str, schema: &str, migrations: &'static [Migration]) -> (Db, String) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let db = Db::connect(url.parse().unwrap(), schema, migrations).await.unwrap();
    drop(guard);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    (db, text)
}

#[tokio::test]
async fn keys_sort_by_their_bytes_in_a_database_that_sorts_as_a_language_and_others_are_told() {
    let Some(server) = postgres_url() else { return };
    let name = format!("language_{}", Uuid::new_v4().simple());
    let admin = raw(&server).await;
    let create =
        format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
    admin.batch_execute(&create).await.unwrap();
    let (address, _) = server.rsplit_once('/').unwrap();
    let url = format!("{address}/{name}");
    let small_first = raw(&url).await.query_one("SELECT 'a' < 'B'", &[]).await.unwrap();
    assert!(small_first.get::<_, bool>(0), "the database sorts as a language");

    let (mended, text) = said(&url, "mended", MENDED).await;
    assert!(!text.contains("WARN"), "{text}");
    let (_other, text) = said(&url, "other", CAPITALS).await;
    let warnings: Vec<&str> = text.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{text}");
    assert!(warnings[0].contains("keys=\"stock.name, stock.sku\""), "{text}");

    let saga = SagaId::random();
    assert_eq!(run(&mended, saga, Op::Action, Phase::Whole).await, Verdict::Run);
    assert_eq!(run(&mended, saga, Op::Compensate, Phase::Whole).await, Verdict::Run);
    commit(&mended, Changes { park: vec![append(saga, "e", 0)], ..Changes::default() }).await;
    assert_eq!(mended.claim_parked(Duration::from_secs(60), 10, &[]).await.unwrap().len(), 1);
    admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}
