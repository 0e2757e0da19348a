//! The customers' answers: each reads what they are asked, and answers a question or ignores it.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
};

use saga::{kafka::Publisher, prelude::*};

use super::Customers;
use crate::{
    events::PriceAnswered,
    trip::{Asked, asked},
};

/// Who has answered what.
pub(super) struct Answers {
    answered: BTreeSet<(Uuid, i64)>,
    /// The price that each customer has seen in their request, or has accepted since.
    pub(super) agreed: BTreeMap<Uuid, i64>,
}

impl Answers {
    pub(super) fn new(customers: &Customers) -> Self {
        let agreed = customers.iter().map(|(trip, (_, who))| (*trip, who.request(*trip).quoted_cents())).collect();
        Self { answered: BTreeSet::new(), agreed }
    }

    /// Reads the questions, and gives the answers that are not given yet.
    pub(super) async fn give(
        &mut self,
        customers: &Customers,
        trips: &Db,
        publisher: &Publisher,
    ) -> Result<(), Box<dyn Error>> {
        for Asked { trip_id, number, cents } in asked(trips).await? {
            let Some(accepted) = customers.get(&trip_id).and_then(|(_, who)| who.answer(number)) else { continue };
            if !self.answered.insert((trip_id, number)) {
                continue;
            }
            if accepted {
                self.agreed.insert(trip_id, cents);
            }
            publisher.publish(&PriceAnswered { trip_id, cents, accepted }).await?;
        }
        Ok(())
    }
}
