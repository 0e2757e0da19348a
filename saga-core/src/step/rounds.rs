//! How often a step may run that is not done at once.

/// How often a step runs when it is not done: see [`Step::again`](super::Step::again).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounds {
    pub(super) at_most: u32,
}

impl Rounds {
    /// So many rounds, the first one included; at least one.
    pub const fn at_most(rounds: u32) -> Self {
        Self { at_most: if rounds == 0 { 1 } else { rounds } }
    }
}
