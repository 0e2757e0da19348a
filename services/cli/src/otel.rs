//! Whether the services that a command runs itself tell traces.

/// Whether an `OTEL_*` variable says something of traces. Without one, the services of a demo or a measurement do not go
/// looking for a collector.
pub(crate) fn is_wanted() -> bool {
    std::env::vars_os().any(|(variable, value)| variable.to_string_lossy().starts_with("OTEL_") && !value.is_empty())
}
