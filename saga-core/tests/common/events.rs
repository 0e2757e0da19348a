//! Events of tests, in one line each.

/// Defines events whose saga is their field `id`: `Booked = "trip.booked" on "trip.events" { mood: String }`.
macro_rules! events {
    ($($(#[$attribute:meta])* $name:ident = $type:literal on $topic:literal { $($field:ident: $of:ty),* })*) => {$(
        $(#[$attribute])*
        #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema, saga_core::Event)]
        #[event(name = $type, topic = $topic, saga = "id")]
        pub(crate) struct $name {
            pub(crate) id: uuid::Uuid,
            $(pub(crate) $field: $of,)*
        }
    )*};
}
#[allow(unused_imports, reason = "each test program uses a part of this")]
pub(crate) use events;
