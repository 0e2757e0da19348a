//! What a record is to this participant: an event of one of its steps, one that it passes over, or poison.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::runtime::in_flight::{InFlight, Keys, TakenFrom};
use crate::runtime::stage::Stage;
use crate::{
    barrier::Op,
    dead_letter::{Poison, Reason},
    envelope::open,
    participant::Participant,
    record::Record,
    step::Input,
    store::Store,
    trace::NewSpan,
};

/// What a record is to this participant.
#[derive(Debug)]
pub(crate) enum Reading {
    /// A type that it does not consume.
    PassOver,
    /// No version of this step can handle it.
    Poison(Poison),
    /// It starts this step.
    Event(Box<InFlight>),
}

/// Reads a record. Pure.
pub(crate) fn read<S: Store>(participant: &Participant<S>, record: Arc<Record>, origin: TakenFrom) -> Reading {
    let result = (|| {
        let opened = open(&record)?;
        let Some((step, op)) = participant.route(opened.event_type()) else { return Ok(None) };
        let (envelope, data) = opened.envelope()?;
        let declared = &participant.steps[step];
        let half = declared.half(op).ok_or_else(|| Poison::new(Reason::Permanent, "the step has no compensation"))?;
        let (trigger, saga_id) = (half.decode)(&envelope.event_type, envelope.version, &data)
            .map_err(|e| Poison::new(e.reason(), e.to_string()))?;
        if saga_id != envelope.saga_id {
            return Err(Poison::new(Reason::KeyMismatch, "the key is not the saga of the data"));
        }
        let stage = if half.effect.is_some() { Stage::Start } else { Stage::Whole };
        let (part, input) = (trigger.clone(), Input { trigger, prepared: None, answer: None });
        let name = declared.spec.name;
        let undo = declared.spec.compensation.as_ref().filter(|_| op == Op::Compensate);
        Ok(Some((envelope, step, (name, undo.map_or(name, |undo| undo.name)), op, (part, input), stage)))
    })();
    match result {
        Ok(None) => Reading::PassOver,
        Err(poison) => Reading::Poison(poison),
        Ok(Some((envelope, step, (name, half), op, (part, input), stage))) => Reading::Event(Box::new(InFlight {
            cause_id: envelope.identity(),
            origin,
            record,
            envelope,
            step,
            name,
            half,
            op,
            part,
            input,
            stage,
            round: 0,
            attempts: 0,
            failed_at: None,
            failure: None,
            dead_letter_reason: Reason::Permanent,
            pause: Duration::ZERO,
            is_admitted: false,
            took: Duration::ZERO,
            keys: Keys::default(),
            pass: None,
            span: NewSpan::default(),
            taken: Timestamp::UNIX_EPOCH,
        })),
    }
}
