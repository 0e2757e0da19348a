//! The rule about optional participants: no saga waits for one.

use std::collections::BTreeSet;

use crate::graph::{
    Choreography, EventKey, Node,
    check::{Finding, Rule, list},
};

pub(super) fn optional_is_not_awaited(flow: &Choreography) -> Vec<Finding> {
    let mut findings = Vec::new();
    let optional = |node: &&Node| node.optional;
    for declaration in flow.declarations().iter().filter(|declaration| declaration.optional) {
        let participant = declaration.participant;
        for end in &declaration.ends {
            let event = EventKey::from(end.event);
            let message = format!(
                "{participant} is optional, but declares {event} as an end: declare it in the participant that sagas end at, or \
                 remove .optional()"
            );
            findings.push(Finding::in_participant(Rule::OptionalIsNotAwaited, participant, message).about(event));
        }
        for step in declaration.steps.iter().filter(|step| step.pivot) {
            let message =
                format!("{participant} is optional, but {} is a pivot: remove .pivot() or .optional()", step.name);
            let finding = Finding::in_participant(Rule::OptionalIsNotAwaited, participant, message);
            findings.push(Finding { step: Some(step.name), ..finding });
        }
    }
    let declared_here = |node: &Node, event| {
        let declaration = flow.declarations().iter().filter(|d| d.optional && d.participant == node.participant);
        declaration.flat_map(|d| &d.ends).any(|end| EventKey::from(end.event) == event)
    };
    for node in flow.nodes().iter().filter(optional) {
        let published: BTreeSet<EventKey> = node.publishes.iter().map(|publication| publication.event).collect();
        for event in published {
            if flow.end(event).is_some() && !declared_here(node, event) {
                let message = format!(
                    "{} is optional, but {} publishes {event}, with which a saga ends: end it in a participant that is not \
                     optional",
                    node.participant, node.name,
                );
                findings.push(Finding::at(Rule::OptionalIsNotAwaited, node, message).about(event));
            }
            let waiting: Vec<&Node> = flow.consumers(event).filter(|consumer| !consumer.optional).collect();
            if !waiting.is_empty() {
                let names = list(waiting.iter().map(|n| format!("{}: {}", n.participant, n.name)));
                let message = format!(
                    "{} is optional, but {names} waits for its {event}: remove that trigger, or .optional()",
                    node.participant,
                );
                findings.push(Finding::at(Rule::OptionalIsNotAwaited, node, message).about(event));
            }
        }
    }
    findings
}
