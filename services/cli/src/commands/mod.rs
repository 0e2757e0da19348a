//! One command per file: its flags, its work and its errors.

pub(crate) mod bench;
pub(crate) mod demo;
pub(crate) mod order;
pub(crate) mod produce;
