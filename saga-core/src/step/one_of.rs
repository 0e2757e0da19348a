//! Tuples of events: any of them starts a compensation, whose handler knows only what it is made from each.

use crate::event::{DecodeError, Event, EventType, SagaId, Trigger};

/// Several events, written as a tuple, from each of which a `W` is made: see [`Step::on`](crate::Step::on).
#[diagnostic::on_unimplemented(
    message = "`{Self}` are not events that a `{W}` can be made from",
    label = "not a tuple of events, or `{W}` is not made from each of them",
    note = "write the events as a tuple, `.on::<(HotelRejected, PaymentDeclined)>()`, also when it is one: `(HotelRejected,)`",
    note = "`#[saga_event(.., from(HotelRejected, PaymentDeclined))]` on `{W}` makes it from each, field by field"
)]
pub trait OneOf<W> {
    /// The events.
    fn event_types() -> Vec<EventType>;
    /// Reads the data of event type `name`, which is one of [`OneOf::event_types`], and says whose it is.
    ///
    /// # Errors
    /// As [`Trigger::decode`].
    fn decode(name: &str, version: u32, data: &[u8]) -> Result<(W, SagaId), DecodeError>;
}

macro_rules! one_of {
    ($($event:ident),+) => {
        impl<W, $($event),+> OneOf<W> for ($($event,)+)
        where
            $($event: Event,)+
            W: $(From<$event> +)+,
        {
            fn event_types() -> Vec<EventType> {
                vec![$(EventType::of::<$event>()),+]
            }

            fn decode(name: &str, version: u32, data: &[u8]) -> Result<(W, SagaId), DecodeError> {
                $(if name == $event::NAME {
                    let event = <$event as Trigger>::decode(name, version, data)?;
                    let saga_id = Event::saga_id(&event);
                    return Ok((W::from(event), saga_id));
                })+
                Err(DecodeError::Undecodable(format!("{name} does not start this compensation")))
            }
        }
    };
}

one_of!(A);
one_of!(A, B);
one_of!(A, B, C);
one_of!(A, B, C, D);
one_of!(A, B, C, D, E);
one_of!(A, B, C, D, E, F);
one_of!(A, B, C, D, E, F, G);
one_of!(A, B, C, D, E, F, G, H);
