//! Several statements in one round trip.

use futures::{
    future::{BoxFuture, MaybeDone, maybe_done},
    poll,
};

/// Sends all statements in their order before it waits for the first answer. After one that cannot be sent it sends no
/// more: COMMIT must not follow a statement that was left out.
///
/// # Errors
/// The first error in the order of the statements; later ones follow from it.
pub(super) async fn in_order<T, E>(statements: Vec<BoxFuture<'_, Result<T, E>>>) -> Result<Vec<T>, E> {
    let mut sent = Vec::with_capacity(statements.len());
    for statement in statements {
        let mut statement = maybe_done(statement);
        // The first poll writes the statement to the connection.
        let _ = poll!(&mut statement);
        if let MaybeDone::Done(Err(_)) = statement {
            sent.push(statement);
            break;
        }
        sent.push(statement);
    }
    let mut result = Ok(Vec::with_capacity(sent.len()));
    for mut statement in sent {
        (&mut statement).await;
        if let Some(answer) = std::pin::Pin::new(&mut statement).take_output() {
            result = result.and_then(|mut answers| {
                answers.push(answer?);
                Ok(answers)
            });
        }
    }
    result
}
