//! What the transport promises, on the embedded broker and, where there is one, on a real Kafka.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail so; the killed process reports")]

mod consume;
mod outage;
mod positions;
mod publish;
mod read;
mod rebalance;
mod support;
mod topics;
mod troubles;

/// Runs each of the tests on both kinds of broker; those after `live` need what only Kafka has.
macro_rules! conformance {
    ($($module:ident: [$($name:ident,)*] live [$($only_live:ident,)*];)*) => {
        mod embedded {
            $(mod $module { $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    crate::$module::$name(crate::support::Fixture::embedded()).await;
                }
            )* })*
        }
        mod live {
            $(mod $module { $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    if let Some(fixture) = crate::support::Fixture::live() {
                        crate::$module::$name(fixture).await;
                    }
                }
            )* $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $only_live() {
                    if let Some(fixture) = crate::support::Fixture::live() {
                        crate::$module::$only_live(fixture).await;
                    }
                }
            )* })*
        }
    };
}

conformance! {
    publish: [
        records_of_a_key_are_read_in_the_order_they_were_published,
        calls_that_nobody_waited_for_keep_their_order,
        keys_values_and_headers_come_back_byte_for_byte,
        the_partition_follows_from_the_key_as_in_java,
        a_value_of_900_kilobytes_passes,
        records_in_any_codec_are_read,
        what_can_never_be_written_is_refused_and_nothing_else,
        a_full_queue_refuses_the_record_and_all_that_follow,
        flushing_waits_for_the_acknowledgements,
        a_typed_event_is_published_as_a_cloud_event,
        an_invalid_event_is_not_published,
        a_record_for_a_missing_topic_is_not_acknowledged,
    ] live [
        a_record_too_large_for_its_topic_is_refused,
        a_topic_that_refuses_our_clock_is_written_to,
    ];
    consume: [
        without_room_no_records_are_delivered,
        a_next_that_is_cancelled_loses_nothing,
        a_busy_runtime_stops_the_fetching_and_loses_nothing,
        a_paused_partition_waits_and_the_others_do_not,
        closing_commits_what_is_stored,
        dropping_commits_what_is_stored,
        offsets_are_committed_without_closing,
        lag_is_what_is_not_done,
        lag_grows_while_all_is_paused,
        a_killed_process_leaves_off_at_its_stored_offset,
    ] live [
        a_restarted_static_member_takes_its_partitions_back,
        the_marker_of_a_transaction_is_no_lag,
        the_new_group_protocol_can_be_chosen,
    ];
    read: [
        the_past_is_read_in_the_order_of_time_and_ends,
        only_what_was_written_since_a_time_is_read,
        only_wanted_keys_are_read,
        what_arrives_is_followed,
        a_missing_topic_is_missing_and_stays_so,
    ] live [];
    rebalance: [
        members_share_the_partitions_and_nothing_is_lost,
        a_rebalance_waits_for_the_guard_and_commits_what_it_stored,
        no_record_of_a_revoked_partition_is_delivered,
        an_offset_of_a_partition_that_went_is_ignored_and_counted,
    ] live [
        a_second_process_with_the_same_instance_id_is_noticed,
    ];
    topics: [
        existing_topics_are_left_as_they_are,
        an_unreachable_broker_is_named_and_worth_another_try,
        asking_for_a_topic_does_not_create_it,
    ] live [
        missing_topics_are_created_as_specified,
        two_processes_may_create_the_same_topics,
        what_the_broker_refuses_is_told,
    ];
    positions: [
        a_position_beyond_the_end_begins_at_the_start_and_is_committed,
    ] live [
        a_topic_made_anew_while_it_is_read_is_read_from_its_start,
        a_commit_that_lands_in_a_topic_made_anew_loses_none_of_its_records,
        records_deleted_while_nobody_read_are_counted,
        records_deleted_after_they_were_read_are_not_missed,
    ];
    troubles: [] live [
        a_topic_that_is_read_and_deleted_is_named_and_made_anew_it_is_read,
        a_group_that_has_another_strategy_is_told,
        an_open_transaction_is_told_and_is_lag,
    ];
    outage: [
        a_missing_topic_is_waited_for_and_named,
        nothing_listens_at_the_address,
    ] live [];
}
