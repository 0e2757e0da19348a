//! A set of sagas in constant memory (a Bloom filter). It may contain sagas that were not added, different ones in each set.

use std::hash::{BuildHasher, RandomState};

use crate::event::SagaId;

/// 128 KiB. With 20,000 sagas in it, it also contains one of fifty others.
const WORDS: usize = 1 << 14;

/// Sagas that were added, and those that share a bit with one. Callers must be safe with false positives.
pub(crate) struct SagaSet {
    bits: Vec<u64>,
    empty: bool,
    hasher: RandomState,
}

impl SagaSet {
    pub(crate) fn none() -> Self {
        Self { bits: vec![0; WORDS], empty: true, hasher: RandomState::new() }
    }

    /// An empty set with the hash of `other`, so that it can be added to that.
    pub(crate) fn like(other: &Self) -> Self {
        Self { hasher: other.hasher.clone(), ..Self::none() }
    }

    pub(crate) fn all() -> Self {
        Self { bits: vec![u64::MAX; WORDS], empty: false, hasher: RandomState::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.empty
    }

    pub(crate) fn has(&self, saga_id: SagaId) -> bool {
        let (word, bit) = self.place(saga_id);
        !self.empty && self.bits[word] & bit != 0
    }

    pub(crate) fn add(&mut self, saga_id: SagaId) {
        let (word, bit) = self.place(saga_id);
        self.bits[word] |= bit;
        self.empty = false;
    }

    pub(crate) fn add_everyone(&mut self) {
        self.bits.fill(u64::MAX);
        self.empty = false;
    }

    /// Adds a set that has the same hash.
    pub(crate) fn add_all(&mut self, other: &Self) {
        if !other.empty {
            self.bits.iter_mut().zip(&other.bits).for_each(|(bits, more)| *bits |= more);
            self.empty = false;
        }
    }

    pub(crate) fn clear(&mut self) {
        if !self.empty {
            self.bits.fill(0);
            self.empty = true;
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
    fn place(&self, saga_id: SagaId) -> (usize, u64) {
        let hash = self.hasher.hash_one(saga_id.as_uuid());
        ((hash >> 6) as usize % WORDS, 1 << (hash % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_saga_that_was_added_is_there_and_hardly_any_other() {
        let mut sagas = SagaSet::none();
        let added: Vec<SagaId> = std::iter::repeat_with(SagaId::random).take(20_000).collect();
        assert!(sagas.is_empty() && !sagas.has(added[0]));
        added.iter().for_each(|saga| sagas.add(*saga));
        assert!(added.iter().all(|saga| sagas.has(*saga)));
        let others = std::iter::repeat_with(SagaId::random).take(10_000).filter(|saga| sagas.has(*saga)).count();
        assert!(others < 400, "{others} of 10,000");
        let mut more = SagaSet::like(&sagas);
        more.add_all(&sagas);
        sagas.clear();
        assert!(sagas.is_empty() && added.iter().all(|saga| more.has(*saga) && !sagas.has(*saga)));
    }

    #[test]
    fn whoever_shares_a_bit_in_one_set_does_not_in_the_next() {
        let added: Vec<SagaId> = std::iter::repeat_with(SagaId::random).take(20_000).collect();
        let of = |mut sagas: SagaSet| {
            added.iter().for_each(|saga| sagas.add(*saga));
            sagas
        };
        let (one, two) = (of(SagaSet::none()), of(SagaSet::none()));
        let shares: Vec<SagaId> =
            std::iter::repeat_with(SagaId::random).take(10_000).filter(|saga| one.has(*saga)).collect();
        let again = shares.iter().filter(|saga| two.has(**saga)).count();
        assert!(!shares.is_empty() && again < shares.len() / 2, "{again} of {}", shares.len());
    }
}
