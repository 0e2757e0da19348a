//! Orders from their beginning to their end, in one world that all tests share.

mod disorder;
mod duplicates;
mod endings;
mod envelopes;
mod namespaces;
mod poison;
mod races;
mod requests;
