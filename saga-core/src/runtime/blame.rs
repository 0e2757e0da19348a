//! Whose fault it is that the database refuses what a handler writes: that of one event, or, when the same refusal meets
//! one saga after another, that of a schema, a trigger or a right.

use crate::{barrier::Op, event::SagaId};

/// So many sagas in a row are met by the same refusal before it is taken for everybody's.
const MANY: u32 = 3;

/// What refusals there were since a handler last worked. Pure.
#[derive(Debug, Default)]
pub(super) struct Blame {
    refusal: Option<(usize, Op, String)>,
    last: Option<SagaId>,
    sagas: u32,
}

impl Blame {
    /// The database refused an event. Returns how many sagas beyond the tolerated it has met; none while it is the event's.
    pub(super) fn refused(&mut self, step: usize, op: Op, why: &str, saga: SagaId) -> Option<u32> {
        let same = self.refusal.as_ref().is_some_and(|(s, o, w)| (*s, *o) == (step, op) && w == why);
        if !same {
            *self = Self { refusal: Some((step, op, why.to_owned())), last: None, sagas: 0 };
        }
        if self.last != Some(saga) {
            self.sagas = self.sagas.saturating_add(1);
            self.last = Some(saga);
        }
        self.sagas.checked_sub(MANY).filter(|beyond| *beyond > 0)
    }

    /// A handler worked. Says whether it is one that was under suspicion.
    pub(super) fn worked(&mut self, step: usize, op: Op) -> bool {
        let same = self.refusal.as_ref().is_some_and(|(s, o, _)| (*s, *o) == (step, op));
        if same {
            *self = Self::default();
        }
        same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_meets_many_sagas_in_a_row_is_everybodys() {
        let mut blame = Blame::default();
        let mut refused = |why| blame.refused(0, Op::Action, why, SagaId::random());
        assert_eq!([(); 5].map(|()| refused("23502")), [None, None, None, Some(1), Some(2)]);
        assert_eq!(refused("23514"), None, "another refusal begins anew");
    }

    #[test]
    fn one_saga_that_is_refused_again_and_again_is_one() {
        let (mut blame, saga) = (Blame::default(), SagaId::random());
        assert!((0..20).all(|_| blame.refused(0, Op::Action, "23502", saga).is_none()));
    }

    #[test]
    fn a_handler_that_works_for_others_clears_what_it_is_suspected_of() {
        let mut blame = Blame::default();
        for _ in 0..5 {
            blame.refused(0, Op::Action, "23502", SagaId::random());
        }
        assert!(!blame.worked(1, Op::Action), "another step's success says nothing");
        assert!(blame.worked(0, Op::Action));
        assert_eq!(blame.refused(0, Op::Action, "23502", SagaId::random()), None);
    }
}
