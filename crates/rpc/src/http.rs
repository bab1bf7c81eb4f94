//! What happens to an HTTP request before it is JSON-RPC: who may send it, and whether it is a request at all.

use std::{
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use jsonrpsee::{
    core::{
        BoxError,
        http_helpers::{HttpError, read_body},
    },
    server::{
        HttpBody, HttpRequest, HttpResponse,
        http::{content_type_is_json, response},
    },
    types::{ErrorCode, ErrorObjectOwned, Id, Notification, Request, Response, ResponsePayload},
};
use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tower::{Layer, Service};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use crate::{
    RpcConfig, RpcError,
    service::{OverHttp, batch_too_large},
};

/// How long a browser may remember that it is allowed to call us.
const PREFLIGHT_REMEMBERED_SECONDS: u64 = 24 * 60 * 60;

/// Which web origins may call.
fn origins(config: &RpcConfig) -> Result<Option<AllowOrigin>, RpcError> {
    if config.dev || config.cors.iter().any(|origin| origin == "*") {
        return Ok(Some(AllowOrigin::any()));
    }
    if config.cors.is_empty() {
        return Ok(None);
    }
    let list: Result<Vec<_>, RpcError> = config
        .cors
        .iter()
        .map(|origin| origin.parse().map_err(|_| RpcError::InvalidOrigin(origin.clone())))
        .collect();
    Ok(Some(AllowOrigin::list(list?)))
}

/// The headers that let browsers call us, and the answer to their preflight requests.
pub(crate) fn cors(config: &RpcConfig) -> Result<Option<CorsLayer>, RpcError> {
    let Some(origins) = origins(config)? else { return Ok(None) };
    let remembered = Duration::from_secs(PREFLIGHT_REMEMBERED_SECONDS);
    Ok(Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods(Any)
            .allow_headers(Any)
            .allow_private_network(true)
            .max_age(remembered),
    ))
}

/// Who may send requests and how large they may be.
#[derive(Debug)]
struct Rules {
    /// Names allowed in `Host`; `None` for any.
    hosts: Option<Vec<String>>,
    /// Origins allowed to open a WebSocket; `None` for any.
    origins: Option<Vec<String>>,
    request_bytes_max: u32,
    request_time_max: Duration,
    batch_calls_max: usize,
}

impl Rules {
    fn admits(&self, request: &HttpRequest) -> bool {
        let header = |name: &str| {
            request.headers().get(name).map(|value| value.to_str().unwrap_or_default())
        };
        // Browsers do not apply CORS to WebSockets, but name the page's origin, so that servers can.
        let is_origin_allowed = match (&self.origins, header("origin")) {
            (Some(allowed), Some(origin)) if header("upgrade").is_some() => {
                allowed.iter().any(|one| one == origin)
            }
            _ => true,
        };
        // HTTP/2 has no such header but an authority.
        let host = header("host")
            .or_else(|| request.uri().authority().map(|authority| authority.as_str()));
        let is_host_allowed = match (&self.hosts, host) {
            (Some(allowed), Some(host)) => {
                let name = host_name(host);
                name.parse::<IpAddr>().is_ok()
                    || allowed.iter().any(|one| one.eq_ignore_ascii_case(name))
            }
            _ => true,
        };
        is_origin_allowed && is_host_allowed
    }
}

/// The host without its port and brackets.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

#[derive(Clone, Debug)]
pub(crate) struct GateLayer(Arc<Rules>);

impl GateLayer {
    pub(crate) fn new(config: &RpcConfig) -> Self {
        let unless_any = |list: &[String]| {
            let is_any = config.dev || list.iter().any(|entry| entry == "*");
            (!is_any).then(|| list.to_vec())
        };
        Self(Arc::new(Rules {
            hosts: unless_any(&config.hosts),
            origins: unless_any(&config.cors),
            request_bytes_max: config.limits.request_bytes_max,
            request_time_max: config.limits.request_time_max,
            batch_calls_max: config.limits.batch_calls_max as usize,
        }))
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, rules: self.0.clone() }
    }
}

/// Lets through what is JSON-RPC and answers the rest.
#[derive(Clone, Debug)]
pub(crate) struct Gate<S> {
    inner: S,
    rules: Arc<Rules>,
}

type Answer = Pin<Box<dyn Future<Output = Result<HttpResponse, BoxError>> + Send>>;

impl<S> Service<HttpRequest> for Gate<S>
where
    S: Service<HttpRequest, Response = HttpResponse, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = HttpResponse;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: HttpRequest) -> Answer {
        if !self.rules.admits(&request) {
            return Box::pin(async { Ok(response::denied()) });
        }
        // As tower asks: the clone that was ready, not the new one.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        if request.method().as_str() != "POST" || !content_type_is_json(&request) {
            return Box::pin(inner.call(request));
        }
        let rules = self.rules.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let reading = read_body(&parts.headers, body, rules.request_bytes_max);
            let (body, is_single) =
                match tokio::time::timeout(rules.request_time_max, reading).await {
                    Ok(Ok(read)) => read,
                    // The stream fails if a body that did not give its length is too long, or if the client hangs up, and
                    // then nobody hears the answer.
                    Ok(Err(HttpError::TooLarge | HttpError::Stream(_))) => {
                        return Ok(response::too_large(rules.request_bytes_max));
                    }
                    Ok(Err(HttpError::Malformed)) => return Ok(response::malformed()),
                    // With the connection, since the rest of the body may come yet.
                    Err(_) => return Err("the client did not send its request in time".into()),
                };
            let refused = if is_single {
                refuse_single(&body)
            } else {
                refuse_batch(&body, rules.batch_calls_max)
            };
            if let Some(answer) = refused {
                return Ok(response::ok_response(answer));
            }
            parts.extensions.insert(OverHttp);
            inner.call(HttpRequest::from_parts(parts, HttpBody::from(body))).await
        })
    }
}

pub(crate) fn error_response(id: Id<'_>, error: ErrorObjectOwned) -> String {
    let response = Response::new(ResponsePayload::<()>::error(error), id);
    // Only types that serialise without fail.
    serde_json::to_string(&response).unwrap_or_default()
}

/// The answer to JSON that is no request: -32600, as in geth, where jsonrpsee says "parse error" unless there is an id.
fn refuse_single(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Identified<'a> {
        #[serde(borrow)]
        id: Id<'a>,
    }
    #[derive(serde::Deserialize)]
    struct MaybeIdentified {
        #[serde(rename = "id")]
        _id: IgnoredAny,
    }
    if serde_json::from_slice::<Request<'_>>(body).is_ok() {
        return None;
    }
    // A notification is what has no id at all; one that is no string or number makes it neither.
    let is_notification = serde_json::from_slice::<Notification<'_, Option<&RawValue>>>(body)
        .is_ok()
        && serde_json::from_slice::<MaybeIdentified>(body).is_err();
    if is_notification {
        return None;
    }
    let is_json = serde_json::from_slice::<IgnoredAny>(body).is_ok();
    let code = if is_json { ErrorCode::InvalidRequest } else { ErrorCode::ParseError };
    let id =
        serde_json::from_slice::<Identified<'_>>(body).map_or(Id::Null, |identified| identified.id);
    Some(error_response(id, code.into()))
}

/// The answer to a batch that is too long. Counts without keeping anything.
fn refuse_batch(body: &[u8], calls_max: usize) -> Option<String> {
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

    let is_longer = serde_json::Deserializer::from_slice(body).deserialize_seq(Longer(calls_max));
    matches!(is_longer, Ok(true)).then(|| error_response(Id::Null, batch_too_large()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(answer: Option<String>) -> Option<i64> {
        let answer: serde_json::Value = serde_json::from_str(&answer?).unwrap();
        answer["error"]["code"].as_i64()
    }

    #[test]
    fn json_that_is_no_request_is_told_from_what_is_no_json() {
        for (body, expected) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#, None),
            (r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":null}"#, None),
            (r#"{"jsonrpc":"2.0","method":"eth_chainId"}"#, None),
            ("{}", Some(-32600)),
            (r#"{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}"#, Some(-32600)),
            (r#"{"jsonrpc":"2.0","id":{},"method":"eth_chainId"}"#, Some(-32600)),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, Some(-32600)),
            ("{nonsense", Some(-32700)),
            (r#"{"a":"#, Some(-32700)),
        ] {
            assert_eq!(code(refuse_single(body.as_bytes())), expected, "{body}");
        }
        let answer = refuse_single(br#"{"id":"x"}"#).unwrap();
        assert!(answer.contains(r#""id":"x""#), "{answer}");
        let deep = format!("{}1{}", r#"{"a":"#.repeat(20_000), "}".repeat(20_000));
        assert_eq!(code(refuse_single(deep.as_bytes())), Some(-32600));
    }

    #[test]
    fn a_batch_is_counted_before_it_is_kept() {
        let batch = |calls: usize| format!("[{}]", vec!["1"; calls].join(","));
        assert_eq!(refuse_batch(batch(3).as_bytes(), 3), None);
        assert_eq!(code(refuse_batch(batch(4).as_bytes(), 3)), Some(-32600));
        assert_eq!(refuse_batch(b"[", 3), None, "the parser below says what is wrong");
    }

    #[test]
    fn host_names_are_compared_without_ports_and_brackets() {
        for (host, name) in [
            ("localhost:8545", "localhost"),
            ("localhost", "localhost"),
            ("127.0.0.1:8545", "127.0.0.1"),
            ("[::1]:8545", "::1"),
            ("", ""),
        ] {
            assert_eq!(host_name(host), name);
        }
    }
}
