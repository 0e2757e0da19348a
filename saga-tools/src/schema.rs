//! The JSON Schema of an event's data.

use saga_core::{event::EventType, graph::EventKey};
use serde_json::{Value, json};

/// The event's schema document. Its `$id` is the value of `ce_dataschema`.
pub(crate) fn schema_of(event: EventType) -> Value {
    let mut schema = event.schema();
    if let Value::Object(fields) = &mut schema {
        fields.insert("$id".to_owned(), json!(format!("/schemas/{}", EventKey::from(event))));
    }
    // Sorted, because the order of keys depends on the features of serde_json that other crates enable.
    schema.sort_all_objects();
    schema
}

/// The violations in the data, one line per field.
pub(crate) fn schema_violations(event: EventType, data: &Value) -> Result<Vec<String>, SchemaError> {
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema_of(event))
        .map_err(|error| SchemaError(format!("the schema of {} cannot be used: {error}", event.name)))?;
    let fault = |error: jsonschema::ValidationError<'_>| match field(error.instance_path().as_str()) {
        field if field.is_empty() => error.to_string(),
        field => format!("{field}: {error}"),
    };
    Ok(validator.iter_errors(data).map(fault).collect())
}

/// An invalid schema, which is a defect of the event's type.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct SchemaError(String);

/// `items[0].quantity` for `/items/0/quantity`.
fn field(pointer: &str) -> String {
    let mut field = String::new();
    for part in pointer.split('/').filter(|part| !part.is_empty()) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if part.bytes().all(|b| b.is_ascii_digit()) {
            field.push_str(&format!("[{part}]"));
        } else {
            field.push_str(if field.is_empty() { "" } else { "." });
            field.push_str(&part);
        }
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::order_flow;

    fn created() -> EventType {
        order_flow().events_named("order.created").next().unwrap().1.event
    }

    #[test]
    fn a_schema_says_what_it_is_the_schema_of() {
        assert_eq!(schema_of(created())["$id"], "/schemas/order.created/1");
    }

    #[test]
    fn a_fault_names_its_field() {
        let data = json!({"order_id": "no", "items": [{"sku": "SKU-1", "quantity": 0, "unit_price_cents": 1}]});
        let faults = schema_violations(created(), &data).unwrap();
        let about = |text: &str| faults.iter().any(|fault| fault.contains(text));
        assert!(
            about("order_id: ") && about("items[0].quantity: ") && about("\"currency\" is a required"),
            "{faults:?}"
        );
    }
}
