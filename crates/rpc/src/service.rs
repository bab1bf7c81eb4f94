//! Between the transport and the methods: geth's errors for what jsonrpsee answers in its own words, and metrics.

use std::{collections::HashSet, future::Future, sync::Arc, time::Instant};

use alloy_primitives::Bytes;
use jsonrpsee::{
    BatchResponseBuilder, MethodResponse, ResponsePayload,
    core::middleware::{Batch, BatchEntry, Notification, RpcServiceT},
    types::{ErrorObject, ErrorObjectOwned, Id, Request},
};
use tower::Layer;

use crate::{
    context::Context,
    errors::{Failure, INVALID_REQUEST},
    ingress,
    params::Args,
};

/// What a batch may have many of to be taken in together.
const SEND_RAW: &str = "eth_sendRawTransaction";

/// Marks requests that came by HTTP, which cannot carry subscriptions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverHttp;

/// geth's answer to a batch that is too long.
pub(crate) fn batch_too_large() -> ErrorObjectOwned {
    ErrorObject::owned(INVALID_REQUEST, "batch too large", None::<()>)
}

#[derive(Clone, Debug)]
pub(crate) struct CheckedLayer {
    pub(crate) context: Arc<Context>,
    pub(crate) methods: Arc<HashSet<&'static str>>,
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
    fn check(&self, request: &Request<'_>) -> Result<&'static str, Failure> {
        const NAME_SHOWN_MAX: usize = 100;
        let Some(name) = self.methods.get(request.method_name()) else {
            let name = request.method_name().chars().take(NAME_SHOWN_MAX).collect();
            return Err(Failure::MethodNotFound(name));
        };
        let is_subscription = matches!(*name, "eth_subscribe" | "eth_unsubscribe");
        if is_subscription && request.extensions().get::<OverHttp>().is_some() {
            return Err(Failure::NoSubscriptions);
        }
        Ok(name)
    }

    /// Whether this is a transaction that goes in with others of its batch. On a fork each may have to wait for another
    /// node, and blobs take milliseconds to verify.
    fn is_transaction(&self, request: &Request<'_>) -> bool {
        let has_blobs = |params: &str| {
            params.trim_start_matches(|c: char| c == '[' || c.is_whitespace()).starts_with("\"0x03")
        };
        request.method_name() == SEND_RAW
            && self.methods.contains(SEND_RAW)
            && !request.params().as_str().is_some_and(has_blobs)
            && !self.context.chain.is_fork()
    }

    /// Answers these calls of `eth_sendRawTransaction`.
    async fn send(&self, requests: Vec<Request<'_>>) -> Vec<MethodResponse> {
        let started = Instant::now();
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
            metrics::histogram!("rpc_call_seconds", "method" => SEND_RAW).record(started.elapsed());
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

impl<S> RpcServiceT for Checked<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            NotificationResponse = MethodResponse,
            BatchResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let checked = self.rules.check(&request);
        let inner = self.inner.clone();
        async move {
            match checked {
                Ok(name) => {
                    let started = Instant::now();
                    let response = inner.call(request).await;
                    metrics::histogram!("rpc_call_seconds", "method" => name)
                        .record(started.elapsed());
                    if response.is_error() {
                        metrics::counter!("rpc_errors_total", "method" => name).increment(1);
                    }
                    response
                }
                Err(failure) => {
                    let error = ErrorObjectOwned::from(failure);
                    MethodResponse::error(request.id.clone(), error)
                        .with_extensions(request.extensions)
                }
            }
        }
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let service = self.clone();
        async move {
            if batch.len() > service.rules.batch_calls_max {
                return MethodResponse::error(Id::Null, batch_too_large());
            }
            let mut answers =
                BatchResponseBuilder::new_with_limit(service.rules.response_bytes_max);
            let mut has_notification = false;
            let mut entries = batch.into_iter().peekable();
            while let Some(entry) = entries.next() {
                let answer = match entry {
                    Ok(BatchEntry::Call(request)) if service.rules.is_transaction(&request) => {
                        let mut requests = vec![request];
                        while let Some(Ok(BatchEntry::Call(request))) = entries
                            .next_if(|next| matches!(next, Ok(BatchEntry::Call(next)) if service.rules.is_transaction(next)))
                        {
                            requests.push(request);
                        }
                        for answer in service.rules.send(requests).await {
                            if let Err(too_large) = answers.append(answer) {
                                return too_large;
                            }
                        }
                        continue;
                    }
                    Ok(BatchEntry::Call(request)) => service.call(request).await,
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

    /// Notifications are not carried out, and neither by HTTP nor in a batch answered. On a WebSocket the transport
    /// takes a call for one whose id has a wrong type; rather than leave its sender waiting, it says what is missing.
    fn notification<'a>(
        &self,
        notification: Notification<'a>,
    ) -> impl Future<Output = MethodResponse> + Send + 'a {
        let over_http = notification.extensions().get::<OverHttp>().is_some();
        async move {
            let answer = if over_http {
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
