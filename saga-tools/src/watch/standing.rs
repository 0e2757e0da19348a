//! The ways in which a saga can stand: each set of events that was seen, worked out once.

use std::collections::HashMap;

use saga_core::graph::{Choreography, EventKey, NodeKind, Progress};

/// Whose turn it is: the place of a node in [`Choreography::nodes`].
pub(super) type NodeIndex = usize;

/// How a saga stands. Many sagas share one.
#[derive(Debug)]
pub(super) struct Standing {
    seen: Vec<&'static str>,
    pub(super) progress: Progress,
    /// The nodes whose answer is expected, the one that the saga waits for most first.
    pub(super) awaited: Vec<NodeIndex>,
    next: HashMap<&'static str, usize>,
}

/// All standings that have occurred.
pub(super) struct Standings {
    flow: Choreography,
    /// How far each node is from the start of a saga.
    depths: Vec<usize>,
    known: Vec<Standing>,
}

impl Standings {
    /// Of a saga of which nothing was seen.
    pub(super) const NOTHING: usize = 0;

    pub(super) fn of(flow: &Choreography) -> Self {
        let mut standings = Self { flow: flow.clone(), depths: depths(flow), known: Vec::new() };
        let nothing = standings.work_out(Vec::new());
        standings.known.push(nothing);
        standings
    }

    pub(super) fn flow(&self) -> &Choreography {
        &self.flow
    }

    pub(super) fn get(&self, place: usize) -> &Standing {
        &self.known[place]
    }

    /// How a saga stands when the event is seen too.
    pub(super) fn after(&mut self, place: usize, event: EventKey) -> usize {
        if let Some(next) = self.known[place].next.get(event.name) {
            return *next;
        }
        let mut seen = self.known[place].seen.clone();
        if !seen.contains(&event.name) {
            seen.push(event.name);
            seen.sort_unstable();
        }
        let next = self.known.iter().position(|standing| standing.seen == seen).unwrap_or_else(|| {
            let standing = self.work_out(seen);
            self.known.push(standing);
            self.known.len() - 1
        });
        self.known[place].next.insert(event.name, next);
        next
    }

    fn work_out(&self, seen: Vec<&'static str>) -> Standing {
        let state = self.flow.state(seen.iter().copied());
        let nodes = self.flow.nodes();
        let place = |node: &_| nodes.iter().position(|other| other == node);
        let mut awaited: Vec<NodeIndex> = state.expected.iter().filter_map(|e| place(e.node)).collect();
        // A saga that is turned back still expects what was started before; it waits for what undoes.
        awaited.sort_by_key(|place| (nodes[*place].kind != NodeKind::Compensation, usize::MAX - self.depths[*place]));
        Standing { progress: state.progress, awaited, seen, next: HashMap::new() }
    }
}

fn depths(flow: &Choreography) -> Vec<usize> {
    let nodes = flow.nodes();
    let mut depths = vec![usize::MAX; nodes.len()];
    let mut events = flow.entrances();
    let mut depth = 0;
    while !events.is_empty() {
        let mut next = Vec::new();
        for (place, node) in nodes.iter().enumerate() {
            if depths[place] == usize::MAX && events.iter().any(|event| node.consumes(*event)) {
                depths[place] = depth;
                next.extend(node.publishes.iter().map(|publication| publication.event));
            }
        }
        events = next;
        depth += 1;
    }
    depths
}
