//! Deadlines: timers that are due call the handler of the step that armed them.

pub(crate) mod failing;
pub(crate) mod fire;
