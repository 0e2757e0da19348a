//! The steps that a participant has declared, and the sagas that have rows of them.

use saga_core::{
    barrier::Op,
    event::SagaId,
    store::{Changes, DeclaredStep, Phase, Store},
};

use crate::support::{PATIENCE, admission};

fn step(name: &str, triggers: &[&str]) -> DeclaredStep {
    DeclaredStep { name: name.to_owned(), triggers: triggers.iter().map(|event| (*event).to_owned()).collect() }
}

on_both! {
    async fn what_was_declared_stays_known(f: &Fixture) {
        assert_eq!(f.db.declared_steps().await.unwrap(), []);
        f.db.declare_steps(&[step("reserve", &["order.created", "payment.declined"]), step("count", &[])]).await.unwrap();
        // By a newer version, in another process.
        let another = f.another().await;
        another.declare_steps(&[step("weigh", &["order.weighed"]), step("reserve", &["order.placed"])]).await.unwrap();
        let expected = [step("count", &[]), step("reserve", &["order.placed"]), step("weigh", &["order.weighed"])];
        assert_eq!(f.db.declared_steps().await.unwrap(), expected);
    }

    async fn processes_that_declare_at_once_do_not_stop_each_other(f: &Fixture) {
        let names: Vec<String> = (0..20).map(|i| format!("step_{i:02}")).collect();
        let steps: Vec<DeclaredStep> = names.iter().map(|name| step(name, &["order.created"])).collect();
        let backwards: Vec<DeclaredStep> = steps.iter().rev().cloned().collect();
        let another = f.another().await;
        for _ in 0..10 {
            let (one, other) = futures::join!(f.db.declare_steps(&steps), another.declare_steps(&backwards));
            one.and(other).unwrap();
        }
        assert_eq!(f.db.declared_steps().await.unwrap(), steps);
    }

    async fn the_sagas_of_a_step_are_counted_once_each(f: &Fixture) {
        let sagas = [SagaId::random(), SagaId::random(), SagaId::random()];
        for (saga, op) in [(sagas[0], Op::Action), (sagas[1], Op::Action), (sagas[1], Op::Compensate), (sagas[2], Op::Compensate)] {
            let (tx, _) = f.db.begin(&[admission(saga, op, Phase::Whole)], PATIENCE).await.unwrap();
            f.db.commit(tx, Changes::default()).await.unwrap();
        }
        assert_eq!(f.db.sagas_of_step(crate::support::STEP).await.unwrap(), 3);
        assert_eq!(f.db.sagas_of_step("another").await.unwrap(), 0);
    }
}
