//! Numbers as genesis files write them.
//!
//! Files in the wild hold `"0x1388"`, `"5000"`, `5000` and even `10000000000000000000000` without quotes. The last one
//! does not survive a JSON parser that goes through floating point, so numbers are read from their source text.

use alloy_primitives::U256;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::value::RawValue;

/// An unsigned number of at most 256 bits, quoted or not, hexadecimal (`0x`) or decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantity(pub(crate) U256);

/// The same, of at most 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantity64(pub(crate) u64);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = <&RawValue>::deserialize(deserializer)?.get();
        parse(source).map(Self).ok_or_else(|| D::Error::custom(invalid(source, "at most 256 bits")))
    }
}

impl<'de> Deserialize<'de> for Quantity64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = <&RawValue>::deserialize(deserializer)?.get();
        parse(source)
            .and_then(|number| u64::try_from(number).ok())
            .map(Self)
            .ok_or_else(|| D::Error::custom(invalid(source, "at most 64 bits")))
    }
}

/// Parses the JSON source of a number; `None` where it is not one or has more than 256 bits.
fn parse(source: &str) -> Option<U256> {
    let text = source.strip_prefix('"').and_then(|s| s.strip_suffix('"')).unwrap_or(source);
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // Digits are checked here because the number library also takes separators and an empty text.
    let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    is_number.then(|| U256::from_str_radix(digits, u64::from(radix)).ok()).flatten()
}

/// The longest piece of a wrong value that an error message repeats, in characters.
const SHOWN_CHARACTERS_MAX: usize = 80;

fn invalid(source: &str, size: &str) -> String {
    let mut shown: String = source.chars().take(SHOWN_CHARACTERS_MAX).collect();
    if shown.len() < source.len() {
        shown.push('…');
    }
    format!("invalid number {shown}: expected a hexadecimal (0x…) or decimal number of {size}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &str) -> Result<U256, String> {
        serde_json::from_str::<Quantity>(source).map(|q| q.0).map_err(|e| e.to_string())
    }

    #[test]
    fn every_spelling_of_a_number_is_read() {
        for (source, expected) in [
            ("0", U256::ZERO),
            ("5000", U256::from(5000)),
            (r#""5000""#, U256::from(5000)),
            (r#""0x1388""#, U256::from(5000)),
            (r#""0X1388""#, U256::from(5000)),
            (r#""0x00001388""#, U256::from(5000)),
            ("10000000000000000000001", U256::from(10_000_000_000_000_000_000_001_u128)),
            (&format!("\"0x{}\"", "f".repeat(64)), U256::MAX),
        ] {
            assert_eq!(read(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn what_is_not_an_unsigned_number_is_refused() {
        let too_large = format!("\"0x1{}\"", "0".repeat(64));
        for source in [
            r#""""#,
            r#""0x""#,
            r#""0xzz""#,
            r#""ten""#,
            r#""1_000""#,
            "-1",
            "1.5",
            "1e3",
            "null",
            "true",
            "{}",
            "[1]",
            &too_large,
        ] {
            assert!(read(source).is_err(), "{source}");
        }
        assert!(serde_json::from_str::<Quantity64>("18446744073709551615").is_ok());
        assert!(serde_json::from_str::<Quantity64>("18446744073709551616").is_err());
    }

    #[test]
    fn a_long_wrong_value_is_shortened_in_the_message() {
        let message = read(&format!("\"{}\"", "z".repeat(100_000))).unwrap_err();
        assert!(message.len() < 300, "{message}");
    }
}
