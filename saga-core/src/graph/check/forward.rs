//! Steps after the pivot, which a saga owes.

use super::{Finding, Rule};
use crate::graph::{Choreography, How, Node, NodeKind};

/// A step with a refusal is left out: it may refuse when its retries are used up, and the saga goes on from there.
pub(super) fn forward_steps_are_retried(flow: &Choreography) -> Vec<Finding> {
    let is_success = |node: &Node, how: How| node.kind == NodeKind::Action && how == How::Success;
    // A join of an event of the pivot with others comes after the pivot too.
    let starts = flow.starts().into_iter().chain(flow.joined_requests());
    let up_to = flow.reach(starts, |node, p| is_success(node, p.how) && !node.pivot);
    let gives_up = |node: &&Node| {
        let retried = flow.spec(node).is_some_and(|spec| spec.until_it_succeeds && spec.rounds.is_none());
        !node.pivot && !retried && node.published(How::Refusal).next().is_none()
    };
    let finding = |node: &Node| {
        let message = format!(
            "{} comes after the pivot, where nothing is compensated, yet it is dead-lettered when its retries or rounds are used up: \
             declare .retry(RetryPolicy::until_it_succeeds(..)), and a refusal where it runs in rounds",
            node.name,
        );
        Finding::at(Rule::ForwardStepsAreRetried, node, message)
    };
    let after = flow.forward().into_iter().filter(|node| !up_to.has(node));
    after.filter(gives_up).map(finding).collect()
}
