//! The classic Prometheus text format, made from OpenMetrics text. It names a counter's family with `_total`.

use std::fmt::Write;

/// Rewrites the output of `prometheus-client`. Samples are the same in both formats as long as none has an exemplar,
/// and ours have none.
pub(super) fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        match line.strip_prefix("# ").and_then(|comment| comment.split_once(' ')) {
            Some(("HELP", family)) => help = Some(family),
            Some(("TYPE", family)) => describe(&mut text, family, help.take()),
            // The family's name contains the unit already.
            Some(("UNIT", _)) => {}
            None if line == "# EOF" => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

fn describe(text: &mut String, family: &str, help: Option<&str>) {
    let Some((name, kind)) = family.split_once(' ') else { return };
    let (suffix, kind) = match kind {
        "counter" => ("_total", kind),
        "info" => ("_info", "gauge"),
        "unknown" => ("", "untyped"),
        _ => ("", kind),
    };
    // Writing to a string does not fail.
    if let Some((_, help)) = help.and_then(|help| help.split_once(' ')) {
        let _ = writeln!(text, "# HELP {name}{suffix} {help}");
    }
    let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        metrics::{counter::Counter, gauge::Gauge, histogram::Histogram, info::Info},
        registry::{Registry, Unit},
    };

    use super::*;

    #[test]
    fn every_kind_of_family_is_described_as_its_samples_are_named() {
        let mut registry = Registry::default();
        registry.register("events", "Events # TYPE or not", Counter::<u64>::default());
        registry.register("depth", "How deep", Gauge::<i64>::default());
        registry.register("build", "The build", Info::new([("version", "1 # 2")]));
        let histogram = Histogram::new([0.5]);
        registry.register_with_unit("took", "How long", Unit::Seconds, histogram);
        let mut open_metrics = String::new();
        prometheus_client::encoding::text::encode(&mut open_metrics, &registry).unwrap();
        let expected = "\
# HELP events_total Events # TYPE or not.
# TYPE events_total counter
events_total 0
# HELP depth How deep.
# TYPE depth gauge
depth 0
# HELP build_info The build.
# TYPE build_info gauge
build_info{version=\"1 # 2\"} 1
# HELP took_seconds How long.
# TYPE took_seconds histogram
took_seconds_sum 0.0
took_seconds_count 0
took_seconds_bucket{le=\"0.5\"} 0
took_seconds_bucket{le=\"+Inf\"} 0
";
        assert_eq!(classic(&open_metrics), expected);
    }
}
