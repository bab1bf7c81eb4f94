//! What a body says: a call, a batch of calls, or neither.

use std::sync::Arc;

use hyper::body::Bytes;
use jsonrpsee::{
    MethodResponse,
    core::middleware::{Batch, BatchEntry, BatchEntryErr, Notification},
    types::{ErrorCode, ErrorObjectOwned, Id, InvalidRequest, Request, Response, ResponsePayload},
};
use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    service::{Answering, batch_too_large},
    traffic::Unsent,
};

/// An error as the text of a whole answer.
pub(crate) fn error_response(id: Id<'_>, error: ErrorObjectOwned) -> String {
    let response = Response::new(ResponsePayload::<()>::error(error), id);
    // Only types that serialise without fail.
    serde_json::to_string(&response).unwrap_or_default()
}

/// Answers a body that starts as an object.
pub(super) async fn answer_single(
    methods: &impl Answering,
    unsent: &Arc<Unsent>,
    body: &[u8],
) -> Bytes {
    let (id, answer) = match Single::read(body) {
        Single::Call(request) => (request.id.clone(), methods.call(request).await),
        // Not carried out, and not answered either.
        Single::Notification => (Id::Null, MethodResponse::notification()),
        Single::Neither(id, code) => (id.clone(), MethodResponse::error(id, code)),
    };
    unsent.body(answer, id)
}

/// Answers a body that starts as a list.
pub(super) async fn answer_batch(
    methods: &impl Answering,
    unsent: &Arc<Unsent>,
    body: &[u8],
    calls_max: usize,
) -> Bytes {
    let answer = if is_longer(body, calls_max) {
        MethodResponse::error(Id::Null, batch_too_large())
    } else {
        match serde_json::from_slice::<Vec<&RawValue>>(body) {
            Ok(entries) => {
                methods.batch(Batch::from(entries.into_iter().map(entry).collect())).await
            }
            Err(_) => MethodResponse::error(Id::Null, ErrorCode::ParseError),
        }
    };
    unsent.body(answer, Id::Null)
}

fn entry(json: &RawValue) -> Result<BatchEntry<'_>, BatchEntryErr<'_>> {
    if let Ok(request) = serde_json::from_str::<Request<'_>>(json.get()) {
        return Ok(BatchEntry::Call(request));
    }
    if let Ok(notification) = serde_json::from_str::<Notification<'_>>(json.get()) {
        return Ok(BatchEntry::Notification(notification));
    }
    let id = serde_json::from_str::<InvalidRequest<'_>>(json.get()).map_or(Id::Null, |it| it.id);
    Err(BatchEntryErr::new(id, ErrorCode::InvalidRequest.into()))
}

/// A body that is no batch.
enum Single<'a> {
    Call(Request<'a>),
    Notification,
    /// JSON that is no request: -32600, as in geth. Or no JSON.
    Neither(Id<'a>, ErrorCode),
}

impl<'a> Single<'a> {
    fn read(body: &'a [u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct MaybeIdentified {
            #[serde(rename = "id")]
            _id: IgnoredAny,
        }
        if let Ok(request) = serde_json::from_slice(body) {
            return Self::Call(request);
        }
        // A notification is what has no id at all; one that is no string or number makes it neither.
        let is_notification = serde_json::from_slice::<Notification<'_>>(body).is_ok()
            && serde_json::from_slice::<MaybeIdentified>(body).is_err();
        if is_notification {
            return Self::Notification;
        }
        let is_json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
        let code = if is_json { ErrorCode::InvalidRequest } else { ErrorCode::ParseError };
        let id = serde_json::from_slice::<InvalidRequest<'a>>(body).map_or(Id::Null, |it| it.id);
        Self::Neither(id, code)
    }
}

/// Whether the batch has more calls than that. Counts without keeping anything; what is no list, the parser that comes
/// after it says so.
fn is_longer(body: &[u8], calls_max: usize) -> bool {
    struct Longer(usize);

    impl<'de> Visitor<'de> for Longer {
        type Value = bool;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a batch")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
            let mut calls = 0;
            while list.next_element::<IgnoredAny>()?.is_some() {
                calls += 1;
            }
            Ok(calls > self.0)
        }
    }

    let longer = serde_json::Deserializer::from_slice(body).deserialize_seq(Longer(calls_max));
    matches!(longer, Ok(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_is_no_request_is_told_from_what_is_no_json() {
        let kind = |body: &[u8]| match Single::read(body) {
            Single::Call(_) => "call".to_owned(),
            Single::Notification => "notification".to_owned(),
            Single::Neither(id, code) => format!("{} {id}", code.code()),
        };
        for (body, expected) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#, "call"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":null}"#, "call"),
            (r#"{"jsonrpc":"2.0","method":"eth_chainId"}"#, "notification"),
            ("{}", "-32600 null"),
            (r#"{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}"#, "-32600 1"),
            (r#"{"jsonrpc":"2.0","id":{},"method":"eth_chainId"}"#, "-32600 null"),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, "-32600 1"),
            (r#"{"id":"x"}"#, "-32600 x"),
            ("{nonsense", "-32700 null"),
            (r#"{"a":"#, "-32700 null"),
        ] {
            assert_eq!(kind(body.as_bytes()), expected, "{body}");
        }
        let deep = format!("{}1{}", r#"{"a":"#.repeat(20_000), "}".repeat(20_000));
        assert_eq!(kind(deep.as_bytes()), "-32600 null");
    }

    #[test]
    fn a_batch_is_counted_before_it_is_kept() {
        let batch = |calls: usize| format!("[{}]", vec!["1"; calls].join(","));
        assert!(!is_longer(batch(3).as_bytes(), 3));
        assert!(is_longer(batch(4).as_bytes(), 3));
        assert!(!is_longer(b"[", 3), "the parser after it says what is wrong");
    }
}
