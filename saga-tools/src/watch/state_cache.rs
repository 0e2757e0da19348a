//! Saga states by the set of observed events, each computed once.

use std::collections::HashMap;

use saga_core::graph::{Choreography, EventKey, NodeKind, SagaStatus};

/// The index of a node in [`Choreography::nodes`].
pub(super) type NodeIndex = usize;

/// The state of a saga after a set of events. Many sagas share one.
#[derive(Debug)]
pub(super) struct CachedState {
    observed: Vec<&'static str>,
    pub(super) status: SagaStatus,
    /// The nodes whose answer is expected, and the joins that wait, the most relevant first.
    pub(super) awaited: Vec<NodeIndex>,
    /// What each of these joins waits for: its missing parts, each as `hotel.released or hotel.rejected`.
    pub(super) missing: HashMap<NodeIndex, Vec<String>>,
    next: HashMap<&'static str, usize>,
}

/// All states that occurred so far.
pub(super) struct StateCache {
    flow: Choreography,
    /// The distance of each node from a saga's start.
    depths: Vec<usize>,
    known: Vec<CachedState>,
}

impl StateCache {
    /// The state without any event.
    pub(super) const INITIAL: usize = 0;

    pub(super) fn of(flow: &Choreography) -> Self {
        let mut states = Self { flow: flow.clone(), depths: depths(flow), known: Vec::new() };
        let nothing = states.compute(Vec::new());
        states.known.push(nothing);
        states
    }

    pub(super) fn flow(&self) -> &Choreography {
        &self.flow
    }

    pub(super) fn get(&self, index: usize) -> &CachedState {
        &self.known[index]
    }

    /// The state after one more event.
    pub(super) fn after(&mut self, index: usize, event: EventKey) -> usize {
        if let Some(next) = self.known[index].next.get(event.name) {
            return *next;
        }
        let mut observed = self.known[index].observed.clone();
        if !observed.contains(&event.name) {
            observed.push(event.name);
            observed.sort_unstable();
        }
        let next = self.known.iter().position(|state| state.observed == observed).unwrap_or_else(|| {
            let state = self.compute(observed);
            self.known.push(state);
            self.known.len() - 1
        });
        self.known[index].next.insert(event.name, next);
        next
    }

    fn compute(&self, observed: Vec<&'static str>) -> CachedState {
        let state = self.flow.state(observed.iter().copied());
        let nodes = self.flow.nodes();
        let index = |node: &_| nodes.iter().position(|other| other == node);
        let mut awaited: Vec<NodeIndex> = state.expected.iter().filter_map(|e| index(e.node)).collect();
        let part = |events: &&[EventKey]| events.iter().map(|key| key.name).collect::<Vec<_>>().join(" or ");
        let joins =
            state.joining.iter().filter_map(|join| Some((index(join.node)?, join.missing.iter().map(part).collect())));
        let missing: HashMap<NodeIndex, Vec<String>> = joins.collect();
        awaited.extend(missing.keys());
        // A compensating saga still expects earlier actions; its compensations come first, and before them a join that waits
        // for them. A join of its way forward is about to be closed.
        let is_compensating = state.status == SagaStatus::Backward;
        let rank = |index: NodeIndex| match (missing.contains_key(&index), nodes[index].kind) {
            (true, NodeKind::Action) if is_compensating && self.flow.is_forward(&nodes[index]) => 3,
            (true, _) if is_compensating => 0,
            (_, NodeKind::Compensation) => 1,
            _ => 2,
        };
        awaited.sort_by_key(|index| (rank(*index), usize::MAX - self.depths[*index], *index));
        CachedState { status: state.status, awaited, missing, observed, next: HashMap::new() }
    }
}

fn depths(flow: &Choreography) -> Vec<usize> {
    let nodes = flow.nodes();
    let mut depths = vec![usize::MAX; nodes.len()];
    let mut events = flow.entrances();
    let mut depth = 0;
    while !events.is_empty() {
        let mut next = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            if depths[index] == usize::MAX && events.iter().any(|event| node.consumes(*event)) {
                depths[index] = depth;
                next.extend(node.publishes.iter().map(|publication| publication.event));
            }
        }
        events = next;
        depth += 1;
    }
    depths
}
