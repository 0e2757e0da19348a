//! The `traceparent` header of W3C trace context, read and written. All its rules are here.

const LEN: usize = 55;
/// The length that is read. A later version may append more, which is not needed.
const MAX_LEN: usize = 128;
/// The flags of the specification: sampled, and random trace id. A writer of a new `traceparent` does not pass on
/// unknown flags.
const SAMPLED: u8 = 0b01;
const RANDOM: u8 = 0b10;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The position in a trace, as its header gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span that is the parent of whatever follows.
    pub span_id: [u8; 8],
    flags: u8,
}

impl Traceparent {
    /// The position at this span of this trace.
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> Self {
        Self { trace_id, span_id, flags: u8::from(sampled) }
    }

    /// `<version>-<trace id>-<parent id>-<flags>` in lower-case hexadecimal, neither id all zero; a later version may
    /// append more, and version `ff` does not exist. None for any other text, and for one that is very long or not
    /// printable.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if !(LEN..=MAX_LEN).contains(&bytes.len()) || [2, 35, 52].iter().any(|dash| bytes[*dash] != b'-') {
            return None;
        }
        let [version] = hex(&bytes[..2])?;
        let ends_well = if version == 0 { bytes.len() == LEN } else { bytes.get(LEN).is_none_or(|next| *next == b'-') };
        let (trace_id, span_id) = (hex(&bytes[3..35])?, hex(&bytes[36..52])?);
        let [flags] = hex(&bytes[53..LEN])?;
        let printable = bytes[LEN..].iter().all(|byte| (b' '..=b'~').contains(byte));
        let whole = version != 0xff && ends_well && printable && trace_id != [0; 16] && span_id != [0; 8];
        whole.then_some(Self { trace_id, span_id, flags: flags & (SAMPLED | RANDOM) })
    }

    /// Whether the trace is recorded.
    pub fn sampled(self) -> bool {
        self.flags & SAMPLED == SAMPLED
    }

    /// The child span with this id: the same trace and flags, except for the sampled flag.
    #[must_use]
    pub fn child(self, span_id: [u8; 8], sampled: bool) -> Self {
        Self { span_id, flags: self.flags & !SAMPLED | u8::from(sampled), ..self }
    }

    /// The header's text.
    pub fn to_text(self) -> String {
        let mut text = String::with_capacity(LEN);
        text.push_str("00-");
        push_hex(&mut text, &self.trace_id);
        text.push('-');
        push_hex(&mut text, &self.span_id);
        text.push('-');
        push_hex(&mut text, &[self.flags]);
        text
    }
}

fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_was_read() {
        for text in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03",
        ] {
            assert_eq!(Traceparent::parse(text).unwrap().to_text(), text);
        }
    }

    #[test]
    fn other_flags_of_other_versions_do_not_hide_the_one_we_know() {
        let later = Traceparent::parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0b-more").unwrap();
        assert!(later.sampled());
        assert_eq!(later.to_text(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03");
    }

    #[test]
    fn a_child_keeps_the_flags_that_it_does_not_decide() {
        let random = Traceparent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03").unwrap();
        let dropped = random.child([1; 8], false);
        assert_eq!(dropped.to_text(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0101010101010101-02");
        assert!(dropped.child([2; 8], true).to_text().ends_with("-03"));
    }

    #[test]
    fn malformed_text_is_not_a_traceparent() {
        for text in [
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-0f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-\n",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "+0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Traceparent::parse(text), None, "{text}");
        }
    }
}
