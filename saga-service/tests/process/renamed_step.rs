//! A service whose step has another name than its database knows, as a process: it does not start.

use std::time::Duration;

use saga_core::{
    SagaId,
    barrier::{Cause, Op},
    store::{Admission, Changes, DeclaredStep, Phase, Store},
};
use saga_store::Db;
use uuid::Uuid;

use crate::child::{ANY, NO_BROKER, probe, said};

/// What a version leaves behind that called the step on `probe.asked` otherwise, and has handled a saga.
async fn earlier_version(url: &str, schema: &str) -> Db {
    let db = Db::connect(url.parse().unwrap(), schema, &[]).await.unwrap();
    let step = DeclaredStep { name: "reply".to_owned(), triggers: vec!["probe.asked".to_owned()] };
    db.declare_steps(&[step]).await.unwrap();
    let admission = Admission {
        cause: Cause { id: Uuid::new_v4(), event_type: "probe.asked".to_owned() },
        saga_id: SagaId::random(),
        step: "reply",
        op: Op::Action,
        phase: Phase::Whole,
        effect_key: None,
        joins: false,
        rounds: false,
        from_parked: false,
    };
    let (tx, _) = db.begin(&[admission], Duration::from_secs(5)).await.unwrap();
    db.commit(tx, Changes::default()).await.unwrap();
    db
}

fn does_not_start(url: &str, namespace: &str) {
    let variables = [("DATABASE_URL", url), ("SAGA_NAMESPACE", namespace), ANY, NO_BROKER];
    let output = probe(&variables).output().unwrap();
    let log = said(&output);
    let line = log.lines().find(|line| line.starts_with("probe-service: ")).unwrap_or_default();
    assert_eq!(output.status.code(), Some(2), "{log}");
    for part in ["step reply is gone", "1 saga has rows", "answer starts on probe.asked", "Keep the name"] {
        assert!(line.contains(part), "{part}: {log}");
    }
}

#[tokio::test]
async fn a_service_whose_step_was_renamed_does_not_start_on_sqlite() {
    let folder = std::env::temp_dir().join(format!("saga-renamed-{}", Uuid::new_v4()));
    let url = format!("sqlite://{}/probe.db", folder.display());
    drop(earlier_version(&url, "probe").await);
    does_not_start(&url, "");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_service_whose_step_was_renamed_does_not_start_on_postgresql() {
    let Some(url) = saga_test_support::servers::postgres() else { return };
    // A namespace is short.
    let namespace = format!("t{}", &Uuid::new_v4().simple().to_string()[..12]);
    let schema = namespace.parse::<saga_core::Namespace>().unwrap().schema("probe");
    let db = earlier_version(&url, &schema).await;
    does_not_start(&url, &namespace);
    let drop_schema: &'static str = format!("DROP SCHEMA \"{schema}\" CASCADE").leak();
    db.query(drop_schema, []).await.unwrap();
}
