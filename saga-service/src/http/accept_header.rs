//! Content negotiation by the header `Accept`, as in RFC 9110.

use std::cmp::Reverse;

use axum::http::{HeaderMap, header};
use mediatype::{MediaType, MediaTypeList, Name, ReadParams, names};

/// A media range of the header, and its weight in thousandths.
struct Range<'a> {
    media: MediaType<'a>,
    weight: u16,
}

/// The best of these media types: the first if the caller has no preference, or names none and excludes not all. None
/// if all are excluded.
pub(super) fn best(headers: &HeaderMap, offers: &[&'static str]) -> Option<&'static str> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    // Malformed ranges are ignored.
    let ranges: Vec<_> = values.flat_map(MediaTypeList::new).filter_map(|media| Range::of(media.ok()?)).collect();
    let (mut best, mut unnamed) = (None, None);
    for offer in offers {
        match preference(offer, &ranges) {
            Some((0, ..)) => {}
            Some(liked) if best.is_none_or(|(most, _)| liked > most) => best = Some((liked, *offer)),
            Some(_) => {}
            None => unnamed = unnamed.or(Some(*offer)),
        }
    }
    best.map(|(_, offer)| offer).or(unnamed)
}

/// Weight, specificity and position of the most specific range that contains this offer.
fn preference(offer: &str, ranges: &[Range<'_>]) -> Option<(u16, usize, Reverse<usize>)> {
    let offer = MediaType::parse(offer).ok()?;
    let fitting = ranges.iter().enumerate().filter_map(|(at, range)| Some((range.fits(&offer)?, Reverse(at), range)));
    let (specific, at, range) = fitting.max_by_key(|(specific, at, _)| (*specific, *at))?;
    Some((range.weight, specific, at))
}

impl<'a> Range<'a> {
    fn of(media: MediaType<'a>) -> Option<Self> {
        let weight = match media.get_param(names::Q) {
            Some(weight) => thousandths(weight.as_str())?,
            None => 1000,
        };
        Some(Self { media, weight })
    }

    /// The range's specificity, if it contains the offer. A parameter that the offer lacks is ignored.
    fn fits(&self, offer: &MediaType<'_>) -> Option<usize> {
        let is_any = |name: Name<'_>| name.as_str() == "*";
        if is_any(self.media.ty) {
            return is_any(self.media.subty).then_some(0);
        }
        if self.media.ty != offer.ty {
            return None;
        }
        if is_any(self.media.subty) {
            return Some(1);
        }
        if (self.media.subty, self.media.suffix) != (offer.subty, offer.suffix) {
            return None;
        }
        let mut specific = 2;
        for (name, wanted) in self.media.params() {
            let Some(has) = offer.get_param(name) else { continue };
            if !has.unquoted_str().eq_ignore_ascii_case(&wanted.unquoted_str()) {
                return None;
            }
            specific += 1;
        }
        Some(specific)
    }
}

/// A number from `0` to `1` with at most three decimals, in thousandths.
fn thousandths(weight: &str) -> Option<u16> {
    let (whole, decimals) = weight.split_once('.').unwrap_or((weight, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let decimals: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(decimals),
        "1" if decimals == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    fn of(accept: &[&'static str]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        best(&headers, &[TEXT, OPEN])
    }

    #[test]
    fn the_highest_weight_wins_and_the_most_specific_range_gives_it() {
        for (accept, wanted) in [
            ("application/openmetrics-text", OPEN),
            ("application/openmetrics-text;q=0.5, text/plain;q=0.4", OPEN),
            ("application/openmetrics-text;q=0.4, text/plain;q=0.5", TEXT),
            ("application/openmetrics-text;q=0.4,*/*;q=0.5", TEXT),
            ("application/openmetrics-text;q=0.5,*/*;q=0.4", OPEN),
            ("application/openmetrics-text, text/plain", OPEN),
            ("text/plain, application/openmetrics-text", TEXT),
            ("APPLICATION/OpenMetrics-Text; Q=1.000", OPEN),
            ("application/*, text/*;q=0.9", OPEN),
            // As Prometheus asks.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OPEN,
            ),
        ] {
            assert_eq!(of(&[accept]), Some(wanted), "{accept}");
        }
        assert_eq!(of(&["text/plain;q=0.1", "application/openmetrics-text;q=0.2"]), Some(OPEN));
    }

    #[test]
    fn a_weight_of_zero_excludes() {
        assert_eq!(of(&["application/openmetrics-text;q=0"]), Some(TEXT));
        assert_eq!(of(&["application/openmetrics-text;q=0.000, */*"]), Some(TEXT));
        assert_eq!(of(&["text/plain;q=0, */*;q=0.1"]), Some(OPEN));
        assert_eq!(of(&["text/plain;q=0"]), Some(OPEN));
        assert_eq!(of(&["*/*;q=0"]), None);
        assert_eq!(of(&["*/*;q=0, application/openmetrics-text"]), Some(OPEN));
    }

    #[test]
    fn who_does_not_care_or_cannot_be_understood_gets_the_first() {
        assert_eq!(of(&[]), Some(TEXT));
        for accept in [
            "",
            "*/*",
            "application/json",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=2",
            "application/openmetrics-text;q=-1",
            "application/openmetrics-text;q=0.0001",
            "application/openmetrics-text;q=",
            "x-application/openmetrics-text",
            "text/html; note=\"application/openmetrics-text\"",
        ] {
            assert_eq!(of(&[accept]), Some(TEXT), "{accept}");
        }
    }
}
