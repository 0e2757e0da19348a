//! `saga check`: verifies that the participants fit together.

use std::{fmt::Write, process::ExitCode};

use clap::Args;
use saga_core::graph::{Choreography, Finding, Rule};
use serde::Serialize;

use crate::output::{OutputError, print, print_json};

/// Check that the participants fit together; exits with 1 when they do not
#[derive(Args)]
pub(crate) struct Check {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    rules: Vec<RuleReport>,
    findings: &'a [Finding],
    accepted: Vec<AcceptedReport<'a>>,
}

#[derive(Serialize)]
struct AcceptedReport<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    why: &'static str,
}

#[derive(Serialize)]
struct RuleReport {
    rule: Rule,
    promise: &'static str,
    kept: bool,
}

impl Check {
    pub(crate) fn run(self, flow: &Choreography) -> Result<ExitCode, OutputError> {
        let (findings, accepted) = (flow.check(), flow.accepted());
        if self.json {
            print_json(&Report::of(&findings, &accepted))?;
        } else {
            print(&text(&findings, &accepted))?;
        }
        Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl<'a> Report<'a> {
    fn of(findings: &'a [Finding], accepted: &'a [(Finding, &'static str)]) -> Self {
        let report = |rule: Rule| RuleReport {
            rule,
            promise: rule.promise(),
            kept: findings.iter().all(|finding| finding.rule != rule),
        };
        let accepted = accepted.iter().map(|(finding, why)| AcceptedReport { finding, why }).collect();
        Self { rules: Rule::ALL.into_iter().map(report).collect(), findings, accepted }
    }
}

fn text(findings: &[Finding], accepted: &[(Finding, &'static str)]) -> String {
    let mut text = String::new();
    for RuleReport { rule, promise, kept } in Report::of(findings, accepted).rules {
        let mark = if kept { '✓' } else { '✗' };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{mark} {promise}");
        for finding in findings.iter().filter(|finding| finding.rule == rule) {
            let _ = writeln!(text, "    {}: {} [{}]", finding.participant, finding.message, rule.name());
        }
        for (finding, why) in accepted.iter().filter(|(finding, _)| finding.rule == rule) {
            let _ = writeln!(text, "    accepted, {why}: {}: {}", finding.participant, finding.message);
        }
    }
    let count = match findings.len() {
        0 => "no findings".to_owned(),
        1 => "1 finding".to_owned(),
        n => format!("{n} findings"),
    };
    text + &format!("{} rules checked, {count}\n", Rule::ALL.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_stands_below_the_rule_that_it_breaks() {
        let finding = Finding {
            rule: Rule::WaitsHaveDeadlines,
            participant: "order",
            step: Some("register"),
            event: None,
            message: "add .deadline(..)".to_owned(),
        };
        let text = text(&[finding], &[]);
        assert!(
            text.contains(
                "✗ every participant that waits has a deadline\n    order: add .deadline(..) [waits-have-deadlines]\n"
            ),
            "{text}"
        );
        assert_eq!(text.matches('✓').count(), Rule::ALL.len() - 1);
        assert!(text.ends_with(&format!("{} rules checked, 1 finding\n", Rule::ALL.len())));
    }
}
