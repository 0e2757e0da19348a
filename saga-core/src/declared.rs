//! Compares a participant with the steps that its database has seen. A step's name is a key in that database.

use crate::{
    graph::{Finding, Rule, StepSpec},
    participant::Participant,
    store::{DeclaredStep, Store, StoreError, Summary},
};

impl<S: Store> Participant<S> {
    /// Compares the participant with what its database has seen, and adds its steps to that when nothing is found. A service
    /// does this when it starts, before it handles anything.
    ///
    /// A step is renamed when its name is gone and a step of a name that the database has never seen starts on one of its
    /// events. That is a finding by [`Rule::StepsKeepTheirNames`] as long as there are rows under the old name: to those sagas
    /// the new step is another one, which runs again and compensates nothing. A step that is added, or removed with its
    /// events, is none. What was declared stays known, so that an older version can start beside a newer one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn declare_to(&self, store: &S) -> Result<Vec<Finding>, StoreError> {
        let (declaration, seen) = (self.declaration(), store.declared_steps().await?);
        let mut findings = Vec::new();
        for (old, new, events) in renamed(&declaration.steps, &seen) {
            // Asked before the rows are counted, which takes long in a large table.
            let accepted = declaration.accepted.iter().find(|accepted| accepted.rule == Rule::StepsKeepTheirNames);
            if let Some(accepted) = accepted {
                tracing::warn!(why = accepted.why, "accepted: step {} is {new} now", old.name);
                continue;
            }
            let sagas = store.sagas_of_step(&old.name).await?;
            if sagas > 0 {
                findings.push(self.renamed((&old.name, new), &events, sagas));
            }
        }
        if findings.is_empty() {
            let steps: Vec<DeclaredStep> = declaration.steps.iter().map(DeclaredStep::from).collect();
            // The database nearly always knows them all: then nothing is written and no lock is taken.
            if steps.iter().any(|step| !seen.contains(step)) {
                store.declare_steps(&steps).await?;
            }
        }
        Ok(findings)
    }

    fn renamed(&self, (old, new): (&str, &'static str), events: &[&str], sagas: u64) -> Finding {
        let many = match sagas {
            1 => "1 saga has".to_owned(),
            more if more >= u64::from(Summary::COUNTED) => format!("{more} sagas or more have"),
            few => format!("{few} sagas have"),
        };
        let message = format!(
            "step {old} is gone, {many} rows under that name, and {new} starts on {} as it did: to them {new} is another step, \
             which runs again and compensates nothing. Keep the name, or accept it with .accept(Rule::{:?}, \"why\")",
            events.join(", "),
            Rule::StepsKeepTheirNames,
        );
        Finding { rule: Rule::StepsKeepTheirNames, participant: self.name(), step: Some(new), event: None, message }
    }
}

/// Steps that are gone, and the steps of new names that start on some of the same events. Pure.
fn renamed<'a>(
    now: &[StepSpec],
    seen: &'a [DeclaredStep],
) -> impl Iterator<Item = (&'a DeclaredStep, &'static str, Vec<&'a str>)> {
    let gone = seen.iter().filter(|old| now.iter().all(|step| step.name != old.name));
    let new = now.iter().filter(|step| seen.iter().all(|old| old.name != step.name));
    let new: Vec<DeclaredSpec> = new.map(|step| (step.name, DeclaredStep::from(step))).collect();
    gone.flat_map(move |old| {
        let shared = |(name, step): &DeclaredSpec| {
            let events = old.triggers.iter().filter(|event| step.triggers.contains(event)).map(String::as_str);
            (old, *name, events.collect::<Vec<_>>())
        };
        new.iter().map(shared).filter(|(.., events)| !events.is_empty()).collect::<Vec<_>>()
    })
}

type DeclaredSpec = (&'static str, DeclaredStep);

impl From<&StepSpec> for DeclaredStep {
    fn from(step: &StepSpec) -> Self {
        let compensation = step.compensation.iter().flat_map(|compensation| &compensation.triggers);
        let mut triggers: Vec<String> =
            step.triggers.iter().chain(compensation).map(|event| event.name.to_owned()).collect();
        triggers.sort_unstable();
        triggers.dedup();
        Self { name: step.name.to_owned(), triggers }
    }
}
