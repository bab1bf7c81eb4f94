//! What a node says to transactions.

use serde::Deserialize;
use std::borrow::Cow;

/// One transaction's answer, as little of it as is needed: who reads a hundred thousand a second
/// does not make values of them.
#[derive(Deserialize)]
struct Answer<'a> {
    id: Option<u32>,
    #[serde(borrow)]
    error: Option<Refusal<'a>>,
}

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

/// Calls `each` with the id and, if it was refused, the words of every answer in `body`. An error
/// that is about no transaction in particular is the error returned.
pub(crate) fn read(body: &[u8], mut each: impl FnMut(u32, Option<&str>)) -> Result<(), String> {
    let mut one = |answer: &Answer<'_>| {
        let refusal = answer.error.as_ref().map(|error| error.message.as_ref());
        match (answer.id, refusal) {
            (Some(id), refusal) => each(id, refusal),
            (None, Some(message)) => return Err(message.to_owned()),
            (None, None) => return Err("an answer has no id".to_owned()),
        }
        Ok(())
    };
    if body.first() == Some(&b'[') {
        let answers: Vec<Answer<'_>> =
            serde_json::from_slice(body).map_err(|error| error.to_string())?;
        answers.iter().try_for_each(one)
    } else {
        one(&serde_json::from_slice(body).map_err(|error| error.to_string())?)
    }
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The node has it already.
    Known,
    /// There is no room now.
    Busy,
    /// It will not take it.
    Refused,
}

/// How nodes say that there is no room: geth, reth, Heddle and Anvil, Nethermind, Besu, Erigon.
const BUSY: [&str; 10] = [
    "pool is full",
    "pool limit",
    "discarded",
    "spammer",
    "limit exceeded",
    "too many",
    "busy",
    "overloaded",
    "rate limit",
    "capacity",
];

/// What a node's words mean. `again` says that the transaction was sent before, when "nonce too low" may mean
/// that it is in a block by now.
pub(crate) fn verdict(message: &str, again: bool) -> Verdict {
    let message = message.to_ascii_lowercase();
    let says = |words: &str| message.contains(words);
    if says("already known") || says("already imported") || says("known transaction") {
        return Verdict::Known;
    }
    if again && (says("nonce too low") || says("nonce is too low") || says("old nonce")) {
        return Verdict::Known;
    }
    // A full pool of geth's finds everything underpriced that pays no more than what it has.
    let underpriced = says("transaction underpriced") && !says("replacement");
    if underpriced || BUSY.iter().any(|words| says(words)) {
        Verdict::Busy
    } else {
        Verdict::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(body: &str) -> Result<Vec<(u32, Option<String>)>, String> {
        let mut answers = Vec::new();
        read(body.as_bytes(), |id, refusal| answers.push((id, refusal.map(str::to_owned))))?;
        Ok(answers)
    }

    #[test]
    fn answers_come_alone_or_in_batches_in_any_order() {
        assert_eq!(all(r#"{"jsonrpc":"2.0","id":7,"result":"0xab"}"#), Ok(vec![(7, None)]));
        let batch = r#"[{"id":2,"jsonrpc":"2.0","result":"0x1"},
            {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"say \"no\"","data":{"a":[1]}}}]"#;
        assert_eq!(all(batch), Ok(vec![(2, None), (1, Some(r#"say "no""#.to_owned()))]));
    }

    #[test]
    fn an_error_about_the_whole_request_is_one() {
        let body =
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"batch too large"}}"#;
        assert_eq!(all(body), Err("batch too large".to_owned()));
        assert!(all("<html>").is_err());
        assert!(all(r#"[{"jsonrpc":"2.0","result":"0x1"}]"#).is_err());
    }

    #[test]
    fn refusals_are_told_apart() {
        for (message, again, expected) in [
            ("already known", false, Verdict::Known),
            ("transaction already imported", false, Verdict::Known),
            ("nonce too low: next nonce 5, tx nonce 4", true, Verdict::Known),
            ("nonce too low: next nonce 5, tx nonce 4", false, Verdict::Refused),
            ("txpool is full", false, Verdict::Busy),
            ("transaction underpriced", false, Verdict::Busy),
            ("replacement transaction underpriced", false, Verdict::Refused),
            ("insufficient funds for gas * price + value", true, Verdict::Refused),
            ("invalid sender: invalid chain id for signer", false, Verdict::Refused),
        ] {
            assert_eq!(verdict(message, again), expected, "{message}");
        }
    }
}
