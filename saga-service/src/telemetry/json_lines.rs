//! One flat JSON object per log line: the event's fields beside those of the spans around it.

use std::fmt;

use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{JsonFields, Writer},
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

/// What every line has. An event's field of the same name gets [`RENAMED`] before it.
const OWN: [&str; 3] = ["timestamp", "level", "target"];
const RENAMED: &str = "field.";
/// What the `log` crate's lines say of themselves, the target among it.
const BRIDGE: &str = "log.";
/// What a reader looks for first.
const FIRST: [&str; 4] = ["message", "service", "saga_id", "trace_id"];

/// Writes the lines. No key is in a line twice: the inner span's field replaces the outer one's, and the event's own
/// field replaces both.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonLines;

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Map::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(formatted) = span.extensions().get::<FormattedFields<JsonFields>>() {
                add(&mut fields, &formatted.fields);
            }
        }
        let mut own = String::new();
        context.format_fields(Writer::new(&mut own), event)?;
        add(&mut fields, &own);
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let normalised = event.normalized_metadata();
        let metadata = normalised.as_ref().unwrap_or_else(|| event.metadata());
        let line = line(&time, metadata.level().as_str(), metadata.target(), fields).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

fn add(fields: &mut Map<String, Value>, json: &str) {
    // A span or an event without fields is written as nothing at all.
    let Ok(Value::Object(more)) = serde_json::from_str(json) else { return };
    for (name, value) in more {
        if name.starts_with(BRIDGE) {
            continue;
        }
        let name = if OWN.contains(&name.as_str()) { format!("{RENAMED}{name}") } else { name };
        fields.insert(name, value);
    }
}

fn line(time: &str, level: &str, target: &str, mut fields: Map<String, Value>) -> serde_json::Result<String> {
    let mut line = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut line);
    let mut map = serializer.serialize_map(None)?;
    for (name, value) in OWN.iter().zip([time, level, target]) {
        map.serialize_entry(name, value)?;
    }
    for name in FIRST {
        if let Some(value) = fields.remove(name) {
            map.serialize_entry(name, &value)?;
        }
    }
    for (name, value) in &fields {
        map.serialize_entry(name, value)?;
    }
    map.end()?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{fmt, layer::SubscriberExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).fmt_fields(JsonFields::new());
        let subscriber = tracing_subscriber::registry().with(layer.event_format(JsonLines).with_ansi(false));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// As they are written: a parser would hide what is there twice.
    fn keys(line: &str) -> Vec<&str> {
        line.split("\":").filter_map(|part| part.rsplit_once(['{', ','])?.1.strip_prefix('"')).collect()
    }

    #[test]
    fn a_line_carries_the_fields_of_every_span_around_it() {
        let line = logged(|| {
            let _service = tracing::info_span!("saga", service = "order").entered();
            let step = tracing::info_span!("step", saga_id = "s-1", trace_id = tracing::field::Empty, step = "charge");
            step.record("trace_id", "t-1");
            let _step = step.entered();
            tracing::warn!(attempt = 2, "not yet");
        });
        let json: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["service"], "order");
        assert_eq!(json["saga_id"], "s-1");
        assert_eq!(json["trace_id"], "t-1");
        assert_eq!(json["step"], "charge");
        assert_eq!(json["attempt"], 2);
        assert_eq!(json["message"], "not yet");
        assert_eq!(json["level"], "WARN");
        let order = ["timestamp", "level", "target", "message", "service", "saga_id", "trace_id", "attempt", "step"];
        assert_eq!(keys(&line), order);
    }

    #[test]
    fn no_key_is_there_twice() {
        let line = logged(|| {
            let _outer = tracing::info_span!("outer", saga_id = "outer", name = "n").entered();
            let _inner = tracing::info_span!("inner", saga_id = "inner").entered();
            tracing::info!(saga_id = "own", level = "mine", timestamp = 1, "twice");
        });
        let mut seen = keys(&line);
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all, "{line}");
        let json: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["saga_id"], "own");
        assert_eq!(json["level"], "INFO");
        assert_eq!(json["field.level"], "mine");
        assert_eq!(json["field.timestamp"], 1);
    }

    #[test]
    fn a_line_outside_every_span_is_one_line() {
        let line = logged(|| tracing::info!("one\ntwo \"three\""));
        assert_eq!(line.lines().count(), 1, "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["message"], "one\ntwo \"three\"");
    }
}
