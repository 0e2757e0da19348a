//! Derived ids: an emitted event's id, the identity of its cause and an effect's idempotency key.
//!
//! Each is a UUIDv5 of length-prefixed parts, so that two different lists of parts never yield the same bytes. Ids and
//! keys contain the participant: two participants with a step of the same name publish different events and call with
//! different keys.

use uuid::Uuid;

use crate::{barrier::Op, event::SagaId};

/// The namespace of derived ids: the UUIDv5 of `saga` in the URL namespace.
const NAMESPACE: Uuid = Uuid::from_u128(0x8b6c_9f2e_7f04_5d5c_9c57_4a1d_3f0e_6b21);

/// An event's identity as one value. CloudEvents guarantees only that the pair of source and id is unique.
pub fn cause(source: &str, id: &str) -> Uuid {
    derive(&["cause", source, id])
}

/// What made a participant publish an event.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) participant: &'a str,
    /// The saga. It is part of the id because a producer without a source may number its events within each saga.
    pub(crate) saga: SagaId,
    /// The source and the id of the event that was handled.
    pub(crate) cause: (&'a str, &'a str),
    pub(crate) step: &'a str,
    pub(crate) op: Op,
}

/// The cause of what a join publishes. A join runs once in a saga, whichever of its parts comes last.
pub(crate) const JOIN: (&str, &str) = ("", "");

/// The id of the `index`-th event that a step publishes: the same however often the step is executed.
pub(crate) fn published(origin: Origin<'_>, index: u32) -> Uuid {
    let Origin { participant, saga, cause: (source, id), step, op } = origin;
    derive(&["event", participant, &saga.to_string(), source, id, step, half(op), &index.to_string()])
}

/// The idempotency key of a step's effect: the same for every event that triggers the effect in this saga. Each round of
/// the step has its own.
pub(crate) fn effect_key(participant: &str, saga: SagaId, step: &str, op: Op, round: u32) -> Uuid {
    let (saga, number) = (saga.to_string(), round.to_string());
    let parts = ["effect", participant, &saga, step, half(op), &number];
    derive(if round == 0 { &parts[..5] } else { &parts })
}

/// The key of an effect that was started before keys were stored. It does not contain the participant.
pub(crate) fn unstored_effect_key(saga: SagaId, step: &str, op: Op) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("effect/{saga}\n{step}\n{}\n0", half(op)).as_bytes())
}

/// A number in `0.0..1.0` that spreads retries deterministically, so that a run can be repeated.
pub(crate) fn jitter(saga: SagaId, attempt: u32) -> f64 {
    let (high, _) = derive(&["jitter", &saga.to_string(), &attempt.to_string()]).as_u64_pair();
    #[allow(clippy::cast_precision_loss, reason = "32 bits fit a double")]
    let share = (high >> 32) as f64 / 4_294_967_296.0;
    share
}

fn half(op: Op) -> &'static str {
    match op {
        Op::Action => "action",
        Op::Compensate => "compensate",
    }
}

fn derive(parts: &[&str]) -> Uuid {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    of_bytes(&parts)
}

/// The parts as one UUID.
fn of_bytes(parts: &[&[u8]]) -> Uuid {
    let mut name = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        name.extend_from_slice(&(part.len() as u64).to_be_bytes());
        name.extend_from_slice(part);
    }
    Uuid::new_v5(&NAMESPACE, &name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAGA: &str = "01a1fc38-2552-74dd-874d-d653b16355f5";

    #[test]
    fn every_part_of_an_events_identity_changes_its_id() {
        let saga = SAGA.parse().unwrap();
        let origin = Origin { participant: "flight", saga, cause: ("/trip", "1"), step: "reserve", op: Op::Action };
        let others = [
            Origin { participant: "hotel", ..origin },
            Origin { saga: SagaId::random(), ..origin },
            Origin { cause: ("/shop", "1"), ..origin },
            Origin { cause: ("/trip", "2"), ..origin },
            Origin { cause: ("/tri", "p1"), ..origin },
            Origin { step: "release", ..origin },
            Origin { op: Op::Compensate, ..origin },
        ];
        let id = published(origin, 0);
        assert_eq!(id, published(origin, 0));
        assert_ne!(id, published(origin, 1));
        assert!(others.into_iter().all(|other| published(other, 0) != id));
    }

    #[test]
    fn two_participants_with_a_step_of_one_name_call_with_different_keys() {
        let saga = SAGA.parse().unwrap();
        let key = effect_key("deposit", saga, "charge", Op::Action, 0);
        assert_ne!(key, effect_key("balance", saga, "charge", Op::Action, 0));
        assert_ne!(key, effect_key("deposit", saga, "charge", Op::Compensate, 0));
        assert_ne!(key, unstored_effect_key(saga, "charge", Op::Action));
    }

    /// Fixed values: with a changed formula, a restarted participant would call a bank again under another key.
    #[test]
    fn keys_and_ids_have_their_fixed_values() {
        let saga = SAGA.parse().unwrap();
        let origin =
            Origin { participant: "payment", saga, cause: ("/inventory", "e"), step: "charge", op: Op::Action };
        let written = [
            unstored_effect_key(saga, "charge", Op::Action),
            effect_key("payment", saga, "charge", Op::Action, 0),
            effect_key("payment", saga, "charge", Op::Action, 1),
            published(origin, 0),
            published(origin, 1),
            cause("/inventory", "e"),
        ];
        assert_eq!(
            written.map(|id| id.to_string()),
            [
                "b7d46683-e9ee-5a6c-8626-773da85c8b04",
                "a5c01dc1-816b-5f68-aa73-bd6f39fa83ec",
                "2e9e4480-4cae-5a8b-aaa0-47fbca91c65e",
                "073a22de-1f8e-5d8a-9dea-b40f0402050f",
                "8556dfba-ab3a-5327-96e1-3252a40c8037",
                "3d60c742-020f-53ca-bc30-854ef096ecdf",
            ]
        );
    }
}
