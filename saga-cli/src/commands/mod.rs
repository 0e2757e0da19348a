//! One command per file: its flags, what it does, and what can go wrong with it.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod graph;
pub(crate) mod inspect;
pub(crate) mod order;
pub(crate) mod produce;
pub(crate) mod schemas;
pub(crate) mod watch;
