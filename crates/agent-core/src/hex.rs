//! Bytes as hexadecimal text.

use std::fmt::Write;

/// Returns two lower-case digits for each byte.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let text = String::with_capacity(bytes.len() * 2);
    bytes.iter().fold(text, |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn each_byte_has_two_digits() {
        assert_eq!(encode(&[0, 0x0f, 0xa0, 0xff]), "000fa0ff");
        assert_eq!(encode(&[]), "");
    }
}
