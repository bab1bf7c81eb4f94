//! Numbers as nodes and tracers write them: hexadecimal or decimal text, or a JSON number.

use alloy_primitives::U256;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};
use std::fmt;

/// A number of up to 256 bits; also as the key of an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Quantity(pub(crate) U256);

/// A number of up to 128 bits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Quantity128(pub(crate) u128);

/// A number of up to 64 bits; also as the key of an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quantity64(pub(crate) u64);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Quantity;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number, as hexadecimal or decimal text or as it is")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(U256::from(number)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
                parse(text).map(Quantity).ok_or_else(|| {
                    let shown: String = text.chars().take(80).collect();
                    E::custom(format!("{shown:?} is not a number of up to 256 bits"))
                })
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// Digits of a 256-bit word in hexadecimal.
const WORD_DIGITS: usize = 64;

fn parse(text: &str) -> Option<U256> {
    // Some tracers write slots without the prefix. As a decimal number, 64 digits would be more
    // than anything in a block.
    if text.len() == WORD_DIGITS && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return U256::from_str_radix(text, 16).ok();
    }
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some("") => Some(U256::ZERO),
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            U256::from_str_radix(digits, 16).ok()
        }
        None if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) => {
            U256::from_str_radix(text, 10).ok()
        }
        _ => None,
    }
}

/// Reads `null` as the default: nodes differ in whether they leave out what they do not know.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl<'de> Deserialize<'de> for Quantity128 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Quantity(number) = Quantity::deserialize(deserializer)?;
        let narrow = u128::try_from(number);
        narrow.map(Self).map_err(|_| D::Error::custom(format!("{number} is beyond 128 bits")))
    }
}

impl<'de> Deserialize<'de> for Quantity64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Quantity(number) = Quantity::deserialize(deserializer)?;
        let narrow = u64::try_from(number);
        narrow.map(Self).map_err(|_| D::Error::custom(format!("{number} is beyond 64 bits")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_every_form_that_nodes_write() {
        let read = |json: &str| serde_json::from_str::<Quantity>(json).map(|q| q.0).ok();
        for (json, number) in
            [("\"0x10\"", 16), ("\"16\"", 16), ("16", 16), ("\"0x\"", 0), ("\"0x0010\"", 16)]
        {
            assert_eq!(read(json), Some(U256::from(number)), "{json}");
        }
        let word = format!("\"{}10\"", "0".repeat(62));
        assert_eq!(read(&word), Some(U256::from(16)), "a word of 64 digits is hexadecimal");
        for json in ["\"\"", "\"0xg\"", "\"-1\"", "-1", "1.5", "\"+1\"", "\"0x+1\"", "null"] {
            assert_eq!(read(json), None, "{json}");
        }
        let too_long = format!("\"0x1{}\"", "0".repeat(64));
        assert_eq!(read(&too_long), None);
        assert!(serde_json::from_str::<Quantity64>("\"0x10000000000000000\"").is_err());
    }
}
