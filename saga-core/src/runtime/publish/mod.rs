//! From a committed row to the broker: the outbox, the sweeper that finds what was left in it, and dead letters.

pub(crate) mod backlog;
pub(crate) mod dead_letters;
pub(crate) mod outbox;
pub(crate) mod saga_set;
pub(crate) mod sweeper;
