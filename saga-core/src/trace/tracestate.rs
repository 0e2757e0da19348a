//! The `tracestate` header of W3C trace context, and the part of it that is passed on.

use std::borrow::Cow;

/// The length that every vendor must pass on; a longer list is cut.
const MAX_LEN: usize = 512;
/// The largest number of members.
const MAX_MEMBERS: usize = 32;
/// Members longer than this are removed first when the list must be cut.
const LONG_MEMBER: usize = 128;

/// The list unchanged, if it is within the limits; otherwise without the members that exceed them. The last members are
/// removed first, since the first belong to the systems that saw the trace last. None when nothing is left, or when the
/// text is not valid in an HTTP header.
pub(super) fn within_limits(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
        return None;
    }
    let mut members: Vec<&str> = text.split(',').map(|member| member.trim_matches([' ', '\t'])).collect();
    members.retain(|member| !member.is_empty());
    if text.len() <= MAX_LEN && members.len() <= MAX_MEMBERS {
        return (!members.is_empty()).then_some(Cow::Borrowed(text));
    }
    members.truncate(MAX_MEMBERS);
    while length(&members) > MAX_LEN {
        let long = members.iter().rposition(|member| member.len() > LONG_MEMBER);
        members.remove(long.unwrap_or(members.len() - 1));
    }
    (!members.is_empty()).then(|| Cow::Owned(members.join(",")))
}

fn length(members: &[&str]) -> usize {
    members.iter().map(|member| member.len() + 1).sum::<usize>().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(members: impl IntoIterator<Item = String>) -> String {
        members.into_iter().collect::<Vec<_>>().join(",")
    }

    #[test]
    fn a_list_within_the_limits_is_passed_on_unchanged() {
        let full = list((0..MAX_MEMBERS).map(|i| format!("v{i}=1")));
        let long = format!("a={}", "x".repeat(MAX_LEN - 2));
        for text in ["a=1", "a=b c, other=1", "a=1,,b=2", &full, &long] {
            assert_eq!(within_limits(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_list_of_too_many_members_loses_the_last_ones() {
        let (kept, all) = (list((0..32).map(|i| format!("v{i}=1"))), list((0..40).map(|i| format!("v{i}=1"))));
        assert_eq!(within_limits(&all).as_deref(), Some(kept.as_str()));
    }

    #[test]
    fn a_list_that_is_too_long_loses_only_as_many_last_members_as_necessary() {
        let members: Vec<String> = (0..6).map(|i| format!("v{i}={}", "x".repeat(97))).collect();
        let kept = within_limits(&members.join(",")).unwrap().into_owned();
        assert_eq!(kept, members[..5].join(","), "five of a hundred, with their commas");
    }

    #[test]
    fn long_members_are_removed_before_short_ones_behind_them() {
        let text = format!("a=1,long={},b={},c=3", "x".repeat(300), "y".repeat(300));
        assert_eq!(within_limits(&text).unwrap(), format!("a=1,long={},c=3", "x".repeat(300)));
        assert_eq!(within_limits(&format!("a={}", "x".repeat(MAX_LEN))), None);
    }

    #[test]
    fn text_that_is_invalid_in_a_header_is_dropped() {
        for hostile in ["", " ", ",", "a=\0", "a=\n", "a=\u{1b}[2J", "a=\u{e4}"] {
            assert_eq!(within_limits(hostile), None, "{hostile:?}");
        }
    }
}
