//! The local transaction: which events share it, how they are admitted and run, and what is committed with them.

pub(crate) mod admit;
pub(crate) mod attempt;
pub(crate) mod batch;
pub(crate) mod commit;
pub(crate) mod counts;
pub(crate) mod due;
pub(crate) mod handler_failures;
pub(crate) mod open;
pub(crate) mod parked_writes;
pub(crate) mod pending_writes;
pub(crate) mod publication;
pub(crate) mod result;
pub(crate) mod run;
