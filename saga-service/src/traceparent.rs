//! The `traceparent` header of W3C trace context, read and written.

const LEN: usize = 55;
/// A later version may append more; nobody needs more than this of it.
const MAX_LEN: usize = 128;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Where a trace stands, as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traceparent {
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
    pub(crate) sampled: bool,
}

impl Traceparent {
    /// `<version>-<trace id>-<parent id>-<flags>` in lower-case hexadecimal, neither id all zero; a later version may
    /// append more, version `ff` does not exist.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if !(LEN..=MAX_LEN).contains(&bytes.len()) || [2, 35, 52].iter().any(|dash| bytes[*dash] != b'-') {
            return None;
        }
        let [version] = hex(&bytes[..2])?;
        let ends_well = if version == 0 { bytes.len() == LEN } else { bytes.get(LEN).is_none_or(|next| *next == b'-') };
        let (trace_id, span_id) = (hex(&bytes[3..35])?, hex(&bytes[36..52])?);
        let [flags] = hex(&bytes[53..LEN])?;
        let whole = version != 0xff && ends_well && trace_id != [0; 16] && span_id != [0; 8];
        whole.then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }

    /// The header's text.
    pub(crate) fn to_text(self) -> String {
        let mut text = String::with_capacity(LEN);
        text.push_str("00-");
        push_hex(&mut text, &self.trace_id);
        text.push('-');
        push_hex(&mut text, &self.span_id);
        text.push_str(if self.sampled { "-01" } else { "-00" });
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
        ] {
            assert_eq!(Traceparent::parse(text).unwrap().to_text(), text);
        }
    }

    #[test]
    fn other_flags_of_other_versions_do_not_hide_the_one_we_know() {
        let later = Traceparent::parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0b-more").unwrap();
        assert!(later.sampled);
        assert_eq!(later.to_text(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    }

    #[test]
    fn what_only_looks_like_one_is_none() {
        for text in [
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-0f067aa0ba902b7-01",
            "+0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Traceparent::parse(text), None, "{text}");
        }
    }
}
