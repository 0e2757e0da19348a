//! Whether services started by demo and bench export traces.

/// Whether an `OTEL_*` variable is set. Without one, demo and bench export nothing, so no collector is contacted.
pub(crate) fn is_configured() -> bool {
    std::env::vars_os().any(|(variable, value)| variable.to_string_lossy().starts_with("OTEL_") && !value.is_empty())
}
