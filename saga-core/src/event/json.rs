//! Reads an event's data as its JSON Schema means it: a number is an integer by its value, and an id has one spelling.

use schemars::Schema;
use serde::de::DeserializeOwned;
use serde_json::{Number, Value, error::Category};
use uuid::Uuid;

use super::{Event, SagaId};

/// 2^50. A double represents every integer up to 2^53, but serde_json may round the last digits of a number with a
/// fraction or an exponent. Up to 2^50 the result is certainly the integer that was written. Larger numbers of that
/// form are refused, because they may be off by one.
const MAX_EXACT: f64 = 1_125_899_906_842_624.0;

const CANONICAL: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// Reads the data. JSON does not distinguish integers: to JSON Schema and to many producers, `1000.0` is one. Serde
/// decides by the spelling, so data that serde refuses is read a second time with such numbers replaced by integers.
pub(super) fn read<E: DeserializeOwned>(data: &[u8]) -> Result<E, serde_json::Error> {
    let refused = match serde_json::from_slice(data) {
        Err(error) if error.classify() == Category::Data => error,
        read => return read,
    };
    let Ok(mut value) = serde_json::from_slice::<Value>(data) else { return Err(refused) };
    if !any(&mut value, &mut make_integer) {
        return Err(refused);
    }
    // Report other errors against the data as it was sent.
    serde_json::from_value(value).map_err(|_| refused)
}

/// Whether the data has the saga's id in another spelling than the canonical one.
pub(super) fn spells_otherwise(data: &[u8], saga_id: SagaId) -> bool {
    let canonical = saga_id.to_string();
    if data.windows(canonical.len()).any(|window| window == canonical.as_bytes()) {
        return false;
    }
    let is_it = |value: &mut Value| match value {
        Value::String(text) => *text != canonical && Uuid::try_parse(text).is_ok_and(|id| SagaId::from(id) == saga_id),
        _ => false,
    };
    serde_json::from_slice::<Value>(data).is_ok_and(|mut value| any(&mut value, &mut { is_it }))
}

/// The JSON Schema of an event's data.
pub(super) fn schema<E: Event>() -> Schema {
    let mut schema = schemars::schema_for!(E);
    let field = E::saga_field().and_then(|field| schema.pointer_mut(&format!("/properties/{field}")));
    if let Some(field) = field.and_then(Value::as_object_mut)
        && field.get("format").is_some_and(|format| format == "uuid")
    {
        field.insert("pattern".to_owned(), CANONICAL.into());
    }
    schema
}

fn make_integer(value: &mut Value) -> bool {
    let Some(float) = value.as_f64().filter(|float| value.is_f64() && float.fract() == 0.0 && float.abs() <= MAX_EXACT)
    else {
        return false;
    };
    #[allow(clippy::cast_possible_truncation, reason = "it is an integer, and small enough")]
    let integer = Number::from(float as i64);
    *value = Value::Number(integer);
    true
}

/// Whether the predicate holds for any part of the value. Visits all parts, since the predicate changes them.
fn any(value: &mut Value, holds: &mut impl FnMut(&mut Value) -> bool) -> bool {
    match value {
        Value::Array(list) => list.iter_mut().fold(false, |any_yet, part| any(part, holds) | any_yet),
        Value::Object(map) => map.values_mut().fold(false, |any_yet, part| any(part, holds) | any_yet),
        leaf => holds(leaf),
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::event::{DecodeError, Trigger};

    const ID: &str = "01a1fc38-2552-74dd-874d-d653b16355f5";

    #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Event)]
    #[event(name = "parcel.weighed", topic = "parcel.events", saga = "id")]
    struct Weighed {
        id: Uuid,
        grams: i64,
        parts: Vec<u32>,
        share: f64,
    }

    fn decoded(id: &str, grams: &str, part: &str) -> Result<Weighed, DecodeError> {
        let data = format!(r#"{{"id": "{id}", "grams": {grams}, "parts": [1, {part}], "share": 2.0}}"#);
        Weighed::decode("parcel.weighed", 1, data.as_bytes())
    }

    #[test]
    fn a_number_is_an_integer_by_its_value_and_not_by_its_spelling() {
        for (grams, expected) in
            [("1000.0", 1000), ("1e3", 1000), ("-7.00", -7), ("1125899906842623.000", 1_125_899_906_842_623)]
        {
            let read = decoded(ID, grams, "2.0").unwrap();
            assert_eq!((read.grams, read.parts.as_slice()), (expected, &[1, 2][..]), "{grams}");
            assert!((read.share - 2.0).abs() < f64::EPSILON, "a number with a fraction is unchanged");
        }
    }

    #[test]
    fn a_number_that_is_not_exactly_an_integer_is_refused() {
        for grams in ["1000.5", "9007199254740991.0", "1e300", "\"1000\"", "true"] {
            assert!(matches!(decoded(ID, grams, "2"), Err(DecodeError::Undecodable(_))), "{grams}");
        }
        assert!(decoded(ID, "1", "-1.0").is_err() && decoded(ID, "1", "4294967296.0").is_err(), "out of range");
    }

    #[test]
    fn a_saga_id_in_another_spelling_is_refused_and_the_canonical_one_is_named() {
        assert!(decoded(ID, "1", "2").is_ok());
        assert!(decoded(&ID.replace('-', "\\u002d"), "1", "2").is_ok(), "an escape is not another spelling");
        for other in [ID.to_uppercase(), ID.replace('-', ""), format!("{{{ID}}}").replace('f', "F")] {
            let error = decoded(&other, "1", "2").unwrap_err();
            assert_eq!(error.reason().as_str(), "key_mismatch");
            assert!(error.to_string().ends_with(ID), "{error}");
        }
    }

    #[test]
    fn the_schema_gives_the_spelling_of_the_saga_id() {
        let schema = schema::<Weighed>().to_value();
        assert_eq!(schema["properties"]["id"]["pattern"], CANONICAL);
    }
}
