//! The stages of an event in flight, and what may follow what: one table, complete over its pairs.

/// What is done with the event next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A transaction does all of the step.
    Whole,
    /// A transaction records that the effect is about to be called.
    Start,
    /// The effect is called.
    Call,
    /// A transaction records what the effect answered.
    Finish,
    /// The retries are used up: a transaction records that the effect is to be voided.
    Void,
    /// The effect is voided: the outside system undoes what it did under the key, and does nothing under it any more.
    Abandon,
    /// The retries are used up: a transaction refuses as declared.
    Exhaust,
    /// A transaction keeps the event for a later attempt.
    Park,
    /// Its dead letter is published.
    DeadLetter,
    /// Its dead letter is acknowledged: a transaction keeps the event, which blocks its saga.
    Block,
    /// Its dead letter is acknowledged: a transaction records that the compensation failed, and the saga goes on without it.
    RecordFailure,
    /// Everything about it is durable: its offset may be committed, or its row is gone.
    Settled,
}

/// How a stage ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// A transaction committed the event's end: handled, skipped, or queued behind others of its saga.
    Ended,
    /// A transaction recorded that the effect may be called.
    Started,
    /// A transaction recorded, or found, that the effect is to be voided.
    Voiding,
    /// A transaction parked the event.
    Kept,
    /// The outside system answered.
    Answered,
    /// It failed and is to be tried again.
    Retry,
    /// It failed, its retries are used up, and the step declares a refusal. Its effect may have been carried out.
    RefuseEffect,
    /// It failed, its retries are used up, and the step declares a refusal.
    Refuse,
    /// It failed for good.
    FailedForGood,
    /// The broker has the dead letter.
    Published,
    /// The broker has the dead letter of a compensation that is made at best effort.
    PublishedBestEffort,
}

/// A defect of the runtime: a pair that the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a defect of the framework: {happened:?} cannot follow {stage:?}")]
pub(crate) struct Illegal {
    stage: Stage,
    happened: Happened,
}

/// The next stage. A pair that the table does not have is an error; it never counts as settled.
pub(crate) fn next(stage: Stage, happened: Happened) -> Result<Stage, Illegal> {
    use Happened::{
        Answered, Ended, FailedForGood, Kept, Published, PublishedBestEffort, Refuse, RefuseEffect, Retry, Started,
        Voiding,
    };
    use Stage::{Abandon, Block, Call, DeadLetter, Exhaust, Finish, Park, RecordFailure, Settled, Start, Void, Whole};
    Ok(match (stage, happened) {
        (Whole | Start | Finish | Void | Exhaust | Park | Block | RecordFailure, Ended) => Settled,
        (Park | Block, Kept) => Settled,
        (Start, Started) => Call,
        // Voiding has begun, here or elsewhere: the step can only refuse now.
        (Start | Finish | Void, Voiding) => Abandon,
        (Call, Answered) => Finish,
        (Abandon, Answered) => Exhaust,
        (DeadLetter, Published) => Block,
        (DeadLetter, PublishedBestEffort) => RecordFailure,
        (Whole | Start | Call | Finish | Void | Abandon | Exhaust | Park, Retry) => Park,
        (Block, Retry) => Block,
        (RecordFailure, Retry) => RecordFailure,
        // Its event cannot even be made.
        (RecordFailure, FailedForGood) => Block,
        (Whole | Start | Call | Finish | Void, RefuseEffect) => Void,
        (Whole | Start | Call | Finish | Void, Refuse) => Exhaust,
        (Whole | Start | Call | Finish | Void | Abandon | Exhaust | Park, FailedForGood) => DeadLetter,
        (stage, happened) => return Err(Illegal { stage, happened }),
    })
}

#[cfg(test)]
mod tests {
    use super::{
        Happened::{
            Answered, Ended, FailedForGood, Kept, Published, PublishedBestEffort, Refuse, RefuseEffect, Retry, Started,
            Voiding,
        },
        Stage::{Abandon, Block, Call, DeadLetter, Exhaust, Finish, Park, RecordFailure, Settled, Start, Void, Whole},
        *,
    };

    const HAPPENED: [Happened; 11] = [
        Ended,
        Started,
        Voiding,
        Kept,
        Answered,
        Retry,
        RefuseEffect,
        Refuse,
        FailedForGood,
        Published,
        PublishedBestEffort,
    ];

    /// Written out: a row per stage, a column per happening, in the order of [`HAPPENED`].
    #[rustfmt::skip]
    const TABLE: [(Stage, [Option<Stage>; 11]); 12] = {
        const X: Option<Stage> = None;
        const fn to(stage: Stage) -> Option<Stage> { Some(stage) }
        [
            //            Ended         Started   Voiding      Kept          Answered     Retry     RefuseEff. Refuse       FailedFor.      Published  ..BestEffort
            (Whole,      [to(Settled),  X,        X,           X,            X,           to(Park), to(Void),  to(Exhaust), to(DeadLetter), X,        X       ]),
            (Start,      [to(Settled),  to(Call), to(Abandon), X,            X,           to(Park), to(Void),  to(Exhaust), to(DeadLetter), X,        X       ]),
            (Call,       [X,            X,        X,           X,            to(Finish),  to(Park), to(Void),  to(Exhaust), to(DeadLetter), X,        X       ]),
            (Finish,     [to(Settled),  X,        to(Abandon), X,            X,           to(Park), to(Void),  to(Exhaust), to(DeadLetter), X,        X       ]),
            (Void,       [to(Settled),  X,        to(Abandon), X,            X,           to(Park), to(Void),  to(Exhaust), to(DeadLetter), X,        X       ]),
            (Abandon,    [X,            X,        X,           X,            to(Exhaust), to(Park), X,         X,           to(DeadLetter), X,        X       ]),
            (Exhaust,    [to(Settled),  X,        X,           X,            X,           to(Park), X,         X,           to(DeadLetter), X,        X       ]),
            (Park,       [to(Settled),  X,        X,           to(Settled),  X,           to(Park), X,         X,           to(DeadLetter), X,        X       ]),
            (DeadLetter, [X,            X,        X,           X,            X,           X,        X,         X,           X,              to(Block), to(RecordFailure)]),
            (Block,       [to(Settled),  X,        X,           to(Settled),  X,           to(Block), X,         X,           X,              X,        X       ]),
            (RecordFailure,      [to(Settled),  X,        X,           X,            X,           to(RecordFailure), X,         X,           to(Block),      X,        X       ]),
            (Settled,    [X,            X,        X,           X,            X,           X,        X,         X,           X,              X,        X       ]),
        ]
    };

    #[test]
    fn every_pair_of_stage_and_happening_has_the_successor_of_the_table_or_none() {
        for (stage, row) in TABLE {
            for (happened, expected) in HAPPENED.into_iter().zip(row) {
                assert_eq!(next(stage, happened).ok(), expected, "{happened:?} after {stage:?}");
            }
        }
    }

    #[test]
    fn nothing_is_settled_but_by_a_transaction_that_committed_it() {
        for (stage, row) in TABLE {
            let settles: Vec<Happened> =
                HAPPENED.into_iter().zip(row).filter(|(_, to)| *to == Some(Settled)).map(|(h, _)| h).collect();
            let transaction = matches!(stage, Whole | Start | Finish | Void | Exhaust | Park | Block | RecordFailure);
            assert_eq!(transaction, !settles.is_empty(), "{stage:?}");
            assert!(settles.iter().all(|happened| matches!(happened, Ended | Kept)), "{stage:?}: {settles:?}");
        }
    }
}
