//! Between the transport and the methods: geth's errors for what jsonrpsee answers in its own words, and metrics.

use std::{
    collections::HashMap,
    future::{Future, ready},
    sync::{Arc, OnceLock},
    time::Instant,
};

use alloy_primitives::Bytes;
use jsonrpsee::{
    BatchResponseBuilder, ConnectionId, MethodCallback, MethodResponse, Methods, ResponsePayload,
    core::middleware::{Batch, BatchEntry, Notification, RpcServiceT},
    types::{ErrorCode, ErrorObject, ErrorObjectOwned, Id, Params, Request},
};
use metrics::Histogram;
use serde_json::value::RawValue;
use tower::Layer;

use crate::{
    context::Context,
    errors::{Failure, INVALID_REQUEST},
    ingress,
    params::Args,
    traffic::{CALLER, Traffic},
};

/// What a batch may have many of to be taken in together.
const SEND_RAW: &str = "eth_sendRawTransaction";

/// What answers calls, and batches of them.
pub(crate) trait Answering:
    RpcServiceT<
        MethodResponse = MethodResponse,
        NotificationResponse = MethodResponse,
        BatchResponse = MethodResponse,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Answering for S where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            NotificationResponse = MethodResponse,
            BatchResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// geth's answer to a batch that is too long.
pub(crate) fn batch_too_large() -> ErrorObjectOwned {
    ErrorObject::owned(INVALID_REQUEST, "batch too large", None::<()>)
}

/// The methods themselves, for calls over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Called {
    pub(crate) methods: Methods,
    pub(crate) response_bytes_max: usize,
}

impl RpcServiceT for Called {
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        // Of no meaning to methods that are no subscriptions.
        const CONNECTION: ConnectionId = ConnectionId(0);
        let method = self.methods.method(&request.method).cloned();
        let bytes_max = self.response_bytes_max;
        async move {
            let Request { id, params, extensions, .. } = request;
            let params = Params::new(params.as_deref().map(RawValue::get));
            match method {
                Some(MethodCallback::Sync(answer)) => answer(id, params, bytes_max, extensions),
                Some(MethodCallback::Async(answer)) => {
                    let (id, params) = (id.into_owned(), params.into_owned());
                    answer(id, params, CONNECTION, bytes_max, extensions).await
                }
                // Subscriptions are refused before they get here.
                _ => MethodResponse::error(id, ErrorCode::MethodNotFound),
            }
        }
    }

    // The layer above takes batches apart and leaves notifications out.
    fn batch<'a>(&self, _: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        ready(MethodResponse::error(Id::Null, ErrorCode::InvalidRequest))
    }

    fn notification<'a>(
        &self,
        _: Notification<'a>,
    ) -> impl Future<Output = MethodResponse> + Send + 'a {
        ready(MethodResponse::notification())
    }
}

/// What is known of the methods that are served.
#[derive(Clone, Debug)]
pub(crate) struct CheckedLayer {
    pub(crate) context: Arc<Context>,
    /// The names, each with the times that its calls took. Those are registered with the first call, since what is
    /// never called is not to fill the list of metrics.
    pub(crate) methods: Arc<HashMap<&'static str, OnceLock<Histogram>>>,
    /// Whether clients can be told of events: over HTTP they cannot.
    pub(crate) has_subscriptions: bool,
    pub(crate) batch_calls_max: usize,
    pub(crate) response_bytes_max: usize,
}

impl<S> Layer<S> for CheckedLayer {
    type Service = Checked<S>;

    fn layer(&self, inner: S) -> Checked<S> {
        Checked { inner, rules: self.clone() }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Checked<S> {
    inner: S,
    rules: CheckedLayer,
}

impl CheckedLayer {
    fn check(&self, request: &Request<'_>) -> Result<(&'static str, Histogram), Failure> {
        const NAME_SHOWN_MAX: usize = 100;
        let Some((name, seconds)) = self.served(request.method_name()) else {
            let name = request.method_name().chars().take(NAME_SHOWN_MAX).collect();
            return Err(Failure::MethodNotFound(name));
        };
        let is_subscription = matches!(name, "eth_subscribe" | "eth_unsubscribe");
        if is_subscription && !self.has_subscriptions {
            return Err(Failure::NoSubscriptions);
        }
        Ok((name, seconds))
    }

    /// A method that is served, with the times that its calls took.
    fn served(&self, name: &str) -> Option<(&'static str, Histogram)> {
        let (name, seconds) = self.methods.get_key_value(name)?;
        let register = || metrics::histogram!("rpc_call_seconds", "method" => *name);
        Some((name, seconds.get_or_init(register).clone()))
    }

    /// Whether this is a transaction that goes in with others of its batch. On a fork each may have to wait for another
    /// node, and blobs take milliseconds to verify.
    fn is_transaction(&self, request: &Request<'_>) -> bool {
        let has_blobs = |params: &str| {
            params.trim_start_matches(|c: char| c == '[' || c.is_whitespace()).starts_with("\"0x03")
        };
        request.method_name() == SEND_RAW
            && self.methods.contains_key(SEND_RAW)
            && !request.params().as_str().is_some_and(has_blobs)
            && !self.context.chain.is_fork()
    }

    /// Answers these calls of `eth_sendRawTransaction`.
    async fn send(&self, requests: Vec<Request<'_>>) -> Vec<MethodResponse> {
        let started = Instant::now();
        let seconds = self.served(SEND_RAW).map(|(_, seconds)| seconds);
        let parsed: Vec<Result<Bytes, Failure>> = requests
            .iter()
            .map(|request| Args::new(&request.params(), 1)?.required::<Bytes>())
            .collect();
        let raw = parsed.iter().flatten().cloned().collect();
        let mut filed = ingress::send_raw_many(self.context.clone(), raw).await.into_iter();
        let respond = |(request, parsed): (Request<'_>, Result<Bytes, Failure>)| {
            let hash = parsed.and_then(|_| match filed.next() {
                Some(hash) => hash,
                None => Err(Failure::server("no answer for the transaction")),
            });
            if let Some(seconds) = &seconds {
                seconds.record(started.elapsed());
            }
            match hash {
                Ok(hash) => MethodResponse::response(
                    request.id,
                    ResponsePayload::success(hash),
                    self.response_bytes_max,
                ),
                Err(failure) => {
                    metrics::counter!("rpc_errors_total", "method" => SEND_RAW).increment(1);
                    MethodResponse::error(request.id, ErrorObjectOwned::from(failure))
                }
            }
        };
        requests.into_iter().zip(parsed).map(respond).collect()
    }
}

impl<S: Answering> Checked<S> {
    async fn answer(&self, request: Request<'_>) -> MethodResponse {
        match self.rules.check(&request) {
            Ok((name, seconds)) => {
                let started = Instant::now();
                let response = self.inner.call(request).await;
                seconds.record(started.elapsed());
                if response.is_error() {
                    metrics::counter!("rpc_errors_total", "method" => name).increment(1);
                }
                response
            }
            Err(failure) => {
                MethodResponse::error(request.id.clone(), ErrorObjectOwned::from(failure))
                    .with_extensions(request.extensions)
            }
        }
    }

    async fn answer_all(&self, batch: Batch<'_>) -> MethodResponse {
        if batch.len() > self.rules.batch_calls_max {
            return MethodResponse::error(Id::Null, batch_too_large());
        }
        let mut answers = BatchResponseBuilder::new_with_limit(self.rules.response_bytes_max);
        let mut has_notification = false;
        let mut entries = batch.into_iter().peekable();
        while let Some(entry) = entries.next() {
            let answer = match entry {
                Ok(BatchEntry::Call(request)) if self.rules.is_transaction(&request) => {
                    let mut requests = vec![request];
                    while let Some(Ok(BatchEntry::Call(request))) = entries.next_if(|next| {
                        matches!(next, Ok(BatchEntry::Call(next)) if self.rules.is_transaction(next))
                    }) {
                        requests.push(request);
                    }
                    for answer in self.rules.send(requests).await {
                        if let Err(too_large) = answers.append(answer) {
                            return too_large;
                        }
                    }
                    continue;
                }
                Ok(BatchEntry::Call(request)) => self.answer(request).await,
                Ok(BatchEntry::Notification(_)) => {
                    has_notification = true;
                    continue;
                }
                Err(error) => {
                    let (error, id) = error.into_parts();
                    MethodResponse::error(id, error)
                }
            };
            if let Err(too_large) = answers.append(answer) {
                return too_large;
            }
        }
        if answers.is_empty() && has_notification {
            return MethodResponse::notification();
        }
        MethodResponse::from_batch(answers.finish())
    }
}

/// Answers when the connection may have more on its way. Over HTTP there is one request after the other anyway.
async fn in_turn(
    traffic: Option<Arc<Traffic>>,
    bytes: usize,
    is_patient: bool,
    id: Id<'_>,
    answer: impl Future<Output = MethodResponse>,
) -> MethodResponse {
    let Some(traffic) = traffic else { return answer.await };
    let _permit = traffic.begin(bytes, is_patient).await;
    let answer = CALLER.scope(traffic.clone(), answer).await;
    traffic.answered(answer, id)
}

fn params_bytes(request: &Request<'_>) -> usize {
    request.params.as_ref().map_or(0, |params| params.get().len())
}

impl<S: Answering> RpcServiceT for Checked<S> {
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let traffic = request.extensions().get::<Arc<Traffic>>().cloned();
        let bytes = params_bytes(&request);
        // They wait for a block.
        let is_patient = request.method_name().ends_with("Sync");
        let id = request.id.clone();
        let service = self.clone();
        async move { in_turn(traffic, bytes, is_patient, id, service.answer(request)).await }
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let calls = || {
            batch.iter().filter_map(|entry| match entry {
                Ok(BatchEntry::Call(request)) => Some(request),
                _ => None,
            })
        };
        let traffic =
            calls().next().and_then(|request| request.extensions().get::<Arc<Traffic>>().cloned());
        let bytes = calls().map(params_bytes).sum();
        let service = self.clone();
        async move { in_turn(traffic, bytes, false, Id::Null, service.answer_all(batch)).await }
    }

    /// Notifications are not carried out, and neither by HTTP nor in a batch answered. On a WebSocket the transport
    /// takes a call for one whose id has a wrong type; rather than leave its sender waiting, it says what is missing.
    fn notification<'a>(
        &self,
        notification: Notification<'a>,
    ) -> impl Future<Output = MethodResponse> + Send + 'a {
        let is_heard = self.rules.has_subscriptions;
        async move {
            let answer = if !is_heard {
                MethodResponse::notification()
            } else {
                let message = "invalid request: the id must be a string or a number";
                MethodResponse::error(
                    Id::Null,
                    ErrorObject::borrowed(INVALID_REQUEST, message, None),
                )
            };
            answer.with_extensions(notification.extensions)
        }
    }
}
