//! When the next parked event and the next deadline are due.

/// When the next parked event and the next deadline are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due<T> {
    pub(crate) parked: Option<T>,
    pub(crate) deadline: Option<T>,
}

impl<T> Default for Due<T> {
    fn default() -> Self {
        Self { parked: None, deadline: None }
    }
}

impl<T: Ord> Due<T> {
    /// The earlier of each.
    pub(crate) fn or(self, other: Self) -> Self {
        let earlier = |a: Option<T>, b: Option<T>| a.into_iter().chain(b).min();
        Self { parked: earlier(self.parked, other.parked), deadline: earlier(self.deadline, other.deadline) }
    }

    pub(crate) fn map<U>(self, to: impl Fn(T) -> U) -> Due<U> {
        Due { parked: self.parked.map(&to), deadline: self.deadline.map(&to) }
    }
}
