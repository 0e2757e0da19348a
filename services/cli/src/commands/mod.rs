//! One command per file: its flags, what it does, and what can go wrong with it.

pub(crate) mod bench;
pub(crate) mod demo;
pub(crate) mod order;
pub(crate) mod produce;
