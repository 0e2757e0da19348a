//! The drawing of a choreography, as a Mermaid flowchart. Equal declarations give equal text.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use crate::graph::{Choreography, Edge, Ending, EventKey, How, Node, NodeKind, Target, causality::same};

// Colours with enough contrast on white and on black, and distinct for people with red-green colour blindness.
const REFUSAL: &str = "stroke:#d55e00,stroke-dasharray:8 4";
const COMPENSATING: &str = "stroke:#0072b2,stroke-dasharray:2 3";

/// How an edge is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Solid,
    Dashed,
    Dotted,
}

impl Choreography {
    /// Draws the choreography: participants as boxes, steps as nodes, events as arrows. A success is solid, a refusal
    /// dashed, compensations are dotted; the pivot, deadlines, effects, joins, choices and optional participants are marked.
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        self.draw(&mut text).unwrap_or_else(|fmt::Error| unreachable!("a String takes every text"));
        text
    }

    fn draw(&self, out: &mut String) -> fmt::Result {
        for (owner, declaration) in self.declarations().iter().enumerate() {
            let optional = if declaration.optional { " (optional)" } else { "" };
            let name = declaration.participant;
            writeln!(out, "    subgraph {}[\"{name}{optional}\"]", word(name))?;
            let mut requests = false;
            for node in self.nodes().iter().filter(|n| n.owner == owner) {
                match node.kind {
                    NodeKind::Request if requests => continue,
                    NodeKind::Request => requests = true,
                    NodeKind::Action | NodeKind::Compensation => {}
                }
                writeln!(out, "        {}", self.drawn(node))?;
            }
            writeln!(out, "    end")?;
        }
        for ending in [Ending::Completed, Ending::Compensated] {
            if self.events().any(|(_, node)| node.end == Some(ending)) {
                writeln!(out, "    {}(((\"{}\")))", end_id(ending), end_label(ending))?;
            }
        }

        let forward = self.forward();
        let edges: Vec<(Edge<'_>, Line)> = self.edges().into_iter().map(|e| (e, line(&e, &forward))).collect();
        for (edge, line) in &edges {
            let arrow = if *line == Line::Dotted { "-.->" } else { "-->" };
            let to = match edge.to {
                Target::Node(node) => id(node),
                Target::End(ending) => end_id(ending).to_owned(),
            };
            writeln!(out, "    {} {arrow}|\"{}\"| {to}", id(edge.from), self.edge_label(edge))?;
        }

        for (wanted, style) in [(Line::Dashed, REFUSAL), (Line::Dotted, COMPENSATING)] {
            let numbers: Vec<String> =
                edges.iter().enumerate().filter(|(_, (_, l))| *l == wanted).map(|(i, _)| i.to_string()).collect();
            if !numbers.is_empty() {
                writeln!(out, "    linkStyle {} {style}", numbers.join(","))?;
            }
        }
        self.draw_classes(out, &forward)
    }

    fn draw_classes(&self, out: &mut String, forward: &[&Node]) -> fmt::Result {
        let compensations = |n: &&Node| {
            n.kind == NodeKind::Compensation || n.kind == NodeKind::Action && !forward.iter().any(|f| same(f, n))
        };
        let ids = |of: &dyn Fn(&&Node) -> bool| self.nodes().iter().filter(of).map(id).collect::<Vec<_>>().join(",");
        let classes = [
            ("compensating", ids(&compensations), "stroke:#0072b2,stroke-dasharray:2 3"),
            ("pivot", ids(&|n: &&Node| n.pivot), "stroke-width:3px"),
        ];
        for (name, members, style) in classes {
            if !members.is_empty() {
                writeln!(out, "    classDef {name} {style}\n    class {members} {name}")?;
            }
        }
        Ok(())
    }

    fn drawn(&self, node: &Node) -> String {
        let id = id(node);
        let mut label = text(name(node));
        let spec = self.spec(node);
        match node.kind {
            NodeKind::Request => return format!("{id}([\"request\"])"),
            NodeKind::Compensation => {
                if !is_unnamed(node.name) {
                    label = format!("{label}<br/>compensates {}", text(node.step));
                }
                let compensation = spec.and_then(|s| s.compensation.as_ref());
                if compensation.is_some_and(|undo| undo.effect) {
                    label.push_str("<br/>effect");
                }
                if compensation.is_some_and(|undo| undo.best_effort) {
                    label.push_str("<br/>best effort");
                }
            }
            NodeKind::Action => {
                if spec.is_some_and(|s| s.effect) {
                    label.push_str("<br/>effect");
                }
                for (how, what) in [(How::Success, "one of"), (How::Refusal, "refuses with one of")] {
                    if chooses(node, how) {
                        let _ = write!(label, "<br/>{what} {}", node.alternatives(how).count());
                    }
                }
                if let Some(rounds) = spec.and_then(|s| s.rounds) {
                    label = format!("{label}<br/>at most {rounds} rounds");
                }
                if let Some(deadline) = spec.and_then(|s| s.arrivals_deadline.as_ref()) {
                    label = format!("{label}<br/>arrivals within {}", duration(deadline.after));
                }
                if let Some(deadline) = spec.and_then(|s| s.deadline.as_ref()) {
                    label = format!("{label}<br/>deadline {}", duration(deadline.after));
                }
                if let Some(deadline) = spec.and_then(|s| s.saga_deadline.as_ref()) {
                    label = format!("{label}<br/>saga deadline {}", duration(deadline.after));
                }
            }
        }
        if node.triggers.is_join() {
            let part = |events: &[EventKey]| events.iter().map(|e| event(*e)).collect::<Vec<_>>().join(" or ");
            let parts: Vec<String> = node.triggers.parts().map(part).collect();
            label = format!("{label}<br/>all of:<br/>{}", parts.join("<br/>"));
        }
        match node.triggers.is_join() {
            _ if node.pivot => format!("{id}{{{{\"{label}<br/>pivot\"}}}}"),
            true => format!("{id}[[\"{label}\"]]"),
            false => format!("{id}[\"{label}\"]"),
        }
    }

    fn edge_label(&self, edge: &Edge<'_>) -> String {
        let mut label = event(edge.event);
        if edge.how == How::Deadline {
            label.push_str("<br/>when the deadline passes");
        }
        // Without a choice, all arrows that leave a node are taken together.
        if chooses(edge.from, edge.how) {
            let with = edge.from.alternatives(edge.how).filter(|events| events.contains(&edge.event));
            for others in with.map(|events| events.iter().filter(|e| **e != edge.event).map(|e| event(*e))) {
                let others: Vec<String> = others.collect();
                if !others.is_empty() {
                    let _ = write!(label, "<br/>with {}", others.join(", "));
                }
            }
        }
        label
    }
}

fn line(edge: &Edge<'_>, forward: &[&Node]) -> Line {
    let into_compensation = matches!(edge.to, Target::Node(node) if node.kind == NodeKind::Compensation);
    match edge.how {
        How::Refusal => Line::Dashed,
        How::Compensated => Line::Dotted,
        How::Deadline | How::Request if into_compensation => Line::Dotted,
        How::Success if !forward.iter().any(|n| same(n, edge.from)) => Line::Dotted,
        How::Success | How::Deadline | How::Request => Line::Solid,
    }
}

/// Whether the node publishes one of several alternatives.
fn chooses(node: &Node, how: How) -> bool {
    node.alternatives(how).nth(1).is_some()
}

/// The version only when there is more than one.
fn event(key: EventKey) -> String {
    if key.version == 1 { key.name.to_owned() } else { key.to_string() }
}

fn is_unnamed(name: &str) -> bool {
    name.is_empty() || name.contains('{')
}

/// A compensation may be a closure, whose name says nothing; its label is then the step that it compensates.
fn name(node: &Node) -> String {
    match node.kind {
        NodeKind::Compensation if is_unnamed(node.name) => format!("compensate {}", node.step),
        NodeKind::Action | NodeKind::Compensation | NodeKind::Request => node.name.to_owned(),
    }
}

fn id(node: &Node) -> String {
    let participant = word(node.participant);
    match node.kind {
        NodeKind::Action => format!("{participant}_{}", word(node.step)),
        NodeKind::Compensation => format!("{participant}_{}_compensation", word(node.step)),
        NodeKind::Request => format!("{participant}_request"),
    }
}

fn end_id(ending: Ending) -> &'static str {
    match ending {
        Ending::Completed => "saga_completed",
        Ending::Compensated => "saga_compensated",
    }
}

fn end_label(ending: Ending) -> &'static str {
    match ending {
        Ending::Completed => "completed",
        Ending::Compensated => "compensated",
    }
}

/// A name as an identifier.
fn word(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// A name inside a quoted label.
fn text(name: impl AsRef<str>) -> String {
    name.as_ref().replace('"', "'").replace('<', "&lt;")
}

fn duration(after: Duration) -> String {
    match after.as_millis() {
        ms if ms > 0 && ms % 86_400_000 == 0 => format!("{} d", ms / 86_400_000),
        ms if ms > 0 && ms % 3_600_000 == 0 => format!("{} h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{} min", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::fixture::{
        all_of, inventory, order, order_flow,
        travel::{participants, travel_flow},
    };

    #[test]
    fn deadlines_and_rounds_are_drawn_at_their_step() {
        let mut order = order();
        let step = &mut order.steps[0];
        (step.saga_deadline, step.rounds) = (step.deadline.take(), Some(4));
        let drawn = Choreography::of(vec![order]).to_mermaid();
        assert!(drawn.contains("register<br/>at most 4 rounds<br/>saga deadline 5 min"), "{drawn}");
    }

    #[test]
    fn the_order_flow_is_drawn_the_same_way_every_time() {
        let drawn = order_flow().to_mermaid();
        assert_eq!(drawn, order_flow().to_mermaid());
        assert_eq!(drawn, include_str!("order_flow.mmd"));
    }

    #[test]
    fn a_join_names_its_parts_and_their_alternatives() {
        let drawn = travel_flow().to_mermaid();
        assert_eq!(drawn, include_str!("travel_flow.mmd"));
        for line in [
            "payment_charge[[\"charge<br/>effect<br/>arrivals within 5 min<br/>all of:<br/>flight.reserved<br/>hotel.reserved<br/>car.reserved\"]]",
            "hotel.rejected or hotel.released<br/>car.rejected or car.released\"]]",
            "flight_reserve -->|\"flight.reserved\"| payment_charge",
        ] {
            assert!(drawn.contains(line), "{line}\n{drawn}");
        }
    }

    #[test]
    fn a_join_at_the_pivot_is_drawn_as_a_pivot() {
        let mut flow = participants();
        flow[0].steps[1].triggers = all_of(&[&["payment.charged"], &["car.reserved"]]);
        let drawn = Choreography::of(flow.to_vec()).to_mermaid();
        let node = "trip_confirm{{\"confirm<br/>all of:<br/>payment.charged<br/>car.reserved<br/>pivot\"}}";
        assert!(drawn.contains(node), "{drawn}");
    }

    #[test]
    fn a_compensation_at_best_effort_is_drawn_as_one() {
        let mut inventory = inventory();
        inventory.steps[0].compensation.as_mut().unwrap().best_effort = true;
        let drawn = Choreography::of(vec![inventory]).to_mermaid();
        assert!(drawn.contains("release<br/>compensates reserve<br/>best effort"), "{drawn}");
    }
}
