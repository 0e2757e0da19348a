//! Orders from beginning to end, in one environment that all tests share.

mod disorder;
mod duplicates;
mod endings;
mod envelopes;
mod namespaces;
mod poison;
mod races;
mod requests;
