//! Reading parameters, with geth's rules and words.
//!
//! Trailing parameters may be missing or null; `params` itself may be missing or null; more parameters than the method
//! takes are refused, and so are parameters by name. Arguments are kept as raw JSON until their type is known, so no
//! depth of nesting and no length costs more than the request's own bytes.

use std::fmt;

use alloy_primitives::{Address, B256, Bytes, U64, U256, hex};
use jsonrpsee::types::Params;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::errors::Failure;

/// The arguments of one call, taken from left to right.
#[derive(Debug)]
pub(crate) struct Args<'a> {
    values: std::vec::IntoIter<&'a RawValue>,
    position: usize,
}

impl<'a> Args<'a> {
    /// Splits `params` into at most `most` arguments.
    pub(crate) fn new(params: &'a Params<'_>, most: usize) -> Result<Self, Failure> {
        let text = params.as_str().unwrap_or("null");
        let values = match text.as_bytes().first() {
            Some(b'[') => {
                let mut deserializer = serde_json::Deserializer::from_str(text);
                let list = serde::Deserializer::deserialize_seq(&mut deserializer, AtMost(most))
                    .map_err(|error| Failure::params(plain(&error)))?;
                list.ok_or_else(|| {
                    Failure::params(format!("too many arguments, want at most {most}"))
                })?
            }
            _ if text == "null" => Vec::new(),
            _ => return Err(Failure::params("non-array args")),
        };
        Ok(Self { values: values.into_iter(), position: 0 })
    }

    /// The next argument, which has to be there.
    pub(crate) fn required<T: Argument>(&mut self) -> Result<T, Failure> {
        let position = self.position;
        self.optional()?.ok_or_else(|| {
            Failure::params(format!("missing value for required argument {position}"))
        })
    }

    /// The next argument, `None` if it is missing or null.
    pub(crate) fn optional<T: Argument>(&mut self) -> Result<Option<T>, Failure> {
        let position = self.position;
        self.position += 1;
        match self.values.next().map(RawValue::get) {
            None | Some("null") => Ok(None),
            Some(json) => T::parse(json)
                .map(Some)
                .map_err(|reason| Failure::params(T::describe(position, &reason))),
        }
    }

    /// The next argument, or what stands for a missing one.
    pub(crate) fn or<T: Argument>(&mut self, default: T) -> Result<T, Failure> {
        Ok(self.optional()?.unwrap_or(default))
    }
}

/// Collects raw values, `None` if there are more than that many.
struct AtMost(usize);

impl<'de> Visitor<'de> for AtMost {
    type Value = Option<Vec<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of arguments")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while values.len() < self.0 {
            match list.next_element()? {
                Some(value) => values.push(value),
                None => return Ok(Some(values)),
            }
        }
        let mut has_more = false;
        while list.next_element::<IgnoredAny>()?.is_some() {
            has_more = true;
        }
        Ok((!has_more).then_some(values))
    }
}

/// serde_json's words without the place, which counts from the start of the argument and helps nobody.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Something that can be an argument.
pub(crate) trait Argument: Sized {
    /// Reads it from its JSON, which is not `null`.
    fn parse(json: &str) -> Result<Self, String>;

    /// The error message for an argument at this position.
    fn describe(position: usize, reason: &str) -> String {
        format!("invalid argument {position}: {reason}")
    }
}

pub(crate) fn from_json<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| plain(&error))
}

/// Implements [`Argument`] through serde.
macro_rules! serde_arguments {
    ($($type:ty),* $(,)?) => {
        $(impl Argument for $type {
            fn parse(json: &str) -> Result<Self, String> {
                from_json(json)
            }
        })*
    };
}

serde_arguments!(
    bool,
    String,
    Vec<f64>,
    serde_json::Value,
    alloy_rpc_types_eth::TransactionRequest,
    alloy_rpc_types_eth::BlockOverrides,
    alloy_dyn_abi::TypedData,
);

impl Argument for alloy_rpc_types_eth::state::StateOverride {
    fn parse(json: &str) -> Result<Self, String> {
        let overrides: Self = from_json(json)?;
        crate::overrides::check(&overrides)?;
        Ok(overrides)
    }
}

fn string(json: &str) -> Result<String, String> {
    // Through `Value` for the error only: "invalid type: integer `5`, expected a string".
    from_json(json)
}

/// The bytes of a hex string that must have `length` of them; `kind` is what geth calls the type.
fn fixed<const N: usize>(json: &str, kind: &str) -> Result<[u8; N], String> {
    let text = string(json)?;
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let digits = match digits {
        _ if text.is_empty() => return Err("empty hex string".to_owned()),
        None => return Err("hex string without 0x prefix".to_owned()),
        Some(digits) => digits,
    };
    if digits.len() != 2 * N {
        return Err(format!("hex string has length {}, want {} for {kind}", digits.len(), 2 * N));
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| "invalid hex string".to_owned())?;
    Ok(bytes)
}

impl Argument for Address {
    fn parse(json: &str) -> Result<Self, String> {
        fixed(json, "address").map(Self::from)
    }
}

impl Argument for B256 {
    fn parse(json: &str) -> Result<Self, String> {
        fixed(json, "hash").map(Self::from)
    }
}

impl Argument for Bytes {
    fn parse(json: &str) -> Result<Self, String> {
        let text = string(json)?;
        let Some(digits) = text.strip_prefix("0x") else {
            return Err(if text.is_empty() {
                "empty hex string"
            } else {
                "hex string without 0x prefix"
            }
            .to_owned());
        };
        if !digits.len().is_multiple_of(2) {
            return Err("hex string of odd length".to_owned());
        }
        hex::decode(digits).map(Self::from).map_err(|_| "invalid hex string".to_owned())
    }
}

/// A hex quantity of at most 64 bits, with geth's rules: prefix, no leading zeros.
pub(crate) fn quantity(text: &str) -> Result<u64, String> {
    let digits = match text.strip_prefix("0x") {
        _ if text.is_empty() => return Err("empty hex string".to_owned()),
        None => return Err("hex string without 0x prefix".to_owned()),
        Some("") => return Err("hex string \"0x\"".to_owned()),
        Some(digits) => digits,
    };
    if digits.len() > 1 && digits.starts_with('0') {
        return Err("hex number with leading zero digits".to_owned());
    }
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err("invalid hex string".to_owned());
    }
    u64::from_str_radix(digits, 16).map_err(|_| "hex number > 64 bits".to_owned())
}

impl Argument for U64 {
    fn parse(json: &str) -> Result<Self, String> {
        quantity(&string(json)?).map(Self::from)
    }
}

/// An index into a block, as a hex quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Index(pub(crate) usize);

impl Argument for Index {
    fn parse(json: &str) -> Result<Self, String> {
        let index = quantity(&string(json)?)?;
        // An index that does not fit is not there either.
        Ok(Self(usize::try_from(index).unwrap_or(usize::MAX)))
    }
}

/// A number however it is written: a JSON number, a hex quantity or decimal digits in a string. For what geth reads
/// that leniently, and for the development methods, where clients differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) u64);

impl Argument for Number {
    fn parse(json: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let number =
            match from_json(json).map_err(|_| format!("{} is no number", shortened(json)))? {
                Written::Number(number) => number,
                Written::Text(text) => {
                    wide(&text)?.try_into().map_err(|_| "number > 64 bits".to_owned())?
                }
            };
        Ok(Self(number))
    }
}

impl Argument for U256 {
    fn parse(json: &str) -> Result<Self, String> {
        match string(json) {
            Ok(text) => wide(&text),
            Err(_) => Number::parse(json).map(|number| Self::from(number.0)),
        }
    }
}

fn wide(text: &str) -> Result<U256, String> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    if digits.is_empty() {
        return Err("empty number".to_owned());
    }
    U256::from_str_radix(digits, radix).map_err(|_| format!("{} is no number", shortened(text)))
}

/// An argument as it may be repeated in a message.
fn shortened(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A storage slot: up to 32 bytes of hex, as geth takes them (`0x0` as well as the whole word).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) index: U256,
    /// Whether it was written as a whole word, which is how `eth_getProof` then repeats it.
    pub(crate) is_word: bool,
}

impl Slot {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        if digits.len() > 64 {
            return Err(format!(
                "storage key too long (want at most 32 bytes): {:?}",
                shortened(text)
            ));
        }
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(format!("invalid hex in storage key: {:?}", shortened(text)));
        }
        let index = if digits.is_empty() {
            U256::ZERO
        } else {
            U256::from_str_radix(digits, 16).map_err(|_| "invalid hex in storage key".to_owned())?
        };
        Ok(Self { index, is_word: digits.len() == 64 })
    }
}

impl Argument for Slot {
    fn parse(json: &str) -> Result<Self, String> {
        Self::read(&string(json)?)
    }

    fn describe(_: usize, reason: &str) -> String {
        reason.to_owned()
    }
}

impl Argument for Vec<Slot> {
    fn parse(json: &str) -> Result<Self, String> {
        from_json::<Vec<String>>(json)?.iter().map(|text| Slot::read(text)).collect()
    }

    fn describe(_: usize, reason: &str) -> String {
        reason.to_owned()
    }
}

/// Which block is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockParam {
    Latest,
    Pending,
    Safe,
    Finalized,
    Earliest,
    Number(u64),
    Hash(B256),
}

impl BlockParam {
    /// A tag or a hex number.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        Ok(match text {
            "latest" => Self::Latest,
            "pending" => Self::Pending,
            "safe" => Self::Safe,
            "finalized" => Self::Finalized,
            "earliest" => Self::Earliest,
            _ => match quantity(text)? {
                number if i64::try_from(number).is_ok() => Self::Number(number),
                _ => return Err("block number larger than int64".to_owned()),
            },
        })
    }
}

/// A tag, a number, a hash, or an object with either (EIP-1898).
impl Argument for BlockParam {
    fn parse(json: &str) -> Result<Self, String> {
        const HASH_LENGTH: usize = 66;

        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Object {
            block_number: Option<String>,
            block_hash: Option<String>,
            #[serde(default, rename = "requireCanonical")]
            // Every block that this node knows by hash is canonical.
            _require_canonical: Option<bool>,
        }

        if json.starts_with('{') {
            let object: Object = from_json(json)?;
            return match (object.block_number, object.block_hash) {
                (Some(_), Some(_)) => {
                    Err("cannot specify both BlockHash and BlockNumber, choose one or the other"
                        .to_owned())
                }
                (Some(number), None) => Self::read(&number),
                (None, Some(hash)) => {
                    B256::parse(&serde_json::Value::from(hash).to_string()).map(Self::Hash)
                }
                (None, None) => Err("either blockHash or blockNumber is needed".to_owned()),
            };
        }
        let text = string(json)?;
        if text.len() == HASH_LENGTH {
            B256::parse(json).map(Self::Hash)
        } else {
            Self::read(&text)
        }
    }
}

/// A tag or a number, for methods that do not take a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockNumber(pub(crate) BlockParam);

impl Argument for BlockNumber {
    fn parse(json: &str) -> Result<Self, String> {
        BlockParam::read(&string(json)?).map(Self)
    }
}

#[cfg(test)]
mod tests;
