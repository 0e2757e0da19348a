//! Tuples of events: any of them starts a compensation, whose handler knows only what it is made from each.

use crate::event::{DecodeError, Event, EventType, SagaId, Trigger};

/// Several events, written as a tuple, from each of which a `W` is made: see [`Step::on`](crate::Step::on).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a tuple of events that `{W}` is made from",
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

/// What is made from an event: by `From`, under a name that the compiler can explain.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not made from `{E}`, which is to start its compensation",
    label = "`{E}` cannot start this compensation",
    note = "add it on `{Self}`: `#[saga_event(.., from({E}))]` takes its fields over by their names; or write `impl From<{E}> for {Self}`"
)]
pub trait MadeFrom<E> {
    /// Makes it.
    fn made_from(event: E) -> Self;
}

#[diagnostic::do_not_recommend]
impl<W: From<E>, E> MadeFrom<E> for W {
    fn made_from(event: E) -> Self {
        Self::from(event)
    }
}

macro_rules! one_of {
    ($($event:ident),+) => {
        impl<W, $($event),+> OneOf<W> for ($($event,)+)
        where
            $($event: Event,)+
            W: $(MadeFrom<$event> +)+,
        {
            fn event_types() -> Vec<EventType> {
                vec![$(EventType::of::<$event>()),+]
            }

            fn decode(name: &str, version: u32, data: &[u8]) -> Result<(W, SagaId), DecodeError> {
                $(if name == $event::NAME {
                    let event = <$event as Trigger>::decode(name, version, data)?;
                    let saga_id = Event::saga_id(&event);
                    return Ok((<W as MadeFrom<$event>>::made_from(event), saga_id));
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
