//! Requests over HTTP: who may send them, what is taken for JSON-RPC, and how it is answered.
//!
//! A request goes from the connection to its method without the layers of jsonrpsee's own HTTP service, which make a
//! stack of services anew for each one; those serve WebSockets only.

mod body;

use std::{
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body_util::Full;
use hyper::{body::Incoming, header};
use jsonrpsee::{
    core::{
        BoxError,
        http_helpers::{HttpError, read_body},
    },
    server::{
        HttpBody, HttpRequest, HttpResponse,
        http::{content_type_is_json, response},
    },
};
use tower::Service;
use tower_http::cors::{AllowOrigin, Any, Cors, CorsLayer};

use crate::{RpcConfig, RpcError, service::Answering, traffic::Unsent};
pub(crate) use body::error_response;

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

/// Who may send requests.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Names allowed in `Host`; `None` for any.
    hosts: Option<Vec<String>>,
    /// Origins allowed to open a WebSocket; `None` for any.
    origins: Option<Vec<String>>,
}

impl Rules {
    pub(crate) fn new(config: &RpcConfig) -> Self {
        let unless_any = |list: &[String]| {
            let is_any = config.dev || list.iter().any(|entry| entry == "*");
            (!is_any).then(|| list.to_vec())
        };
        Self { hosts: unless_any(&config.hosts), origins: unless_any(&config.cors) }
    }

    /// Whether the request may come in at all.
    pub(crate) fn admits<B>(&self, request: &HttpRequest<B>) -> bool {
        let header = |name: header::HeaderName| {
            request.headers().get(name).map(|value| value.to_str().unwrap_or_default())
        };
        // Browsers do not apply CORS to WebSockets, but name the page's origin, so that servers can.
        let is_origin_allowed = match (&self.origins, header(header::ORIGIN)) {
            (Some(allowed), Some(origin)) if header(header::UPGRADE).is_some() => {
                allowed.iter().any(|one| one == origin)
            }
            _ => true,
        };
        let is_host_allowed = match &self.hosts {
            None => true,
            // HTTP/2 has no such header but an authority.
            Some(allowed) => header(header::HOST)
                .or_else(|| request.uri().authority().map(|authority| authority.as_str()))
                .is_none_or(|host| {
                    let name = host_name(host);
                    name.parse::<IpAddr>().is_ok()
                        || allowed.iter().any(|one| one.eq_ignore_ascii_case(name))
                }),
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

/// Answers the requests that are no WebSocket's.
#[derive(Clone, Debug)]
pub(crate) struct HttpCalls<M> {
    plain: Plain<M>,
    /// For those that a web page sends.
    from_pages: Option<Cors<Plain<M>>>,
}

pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<HttpResponse, BoxError>> + Send>>;

impl<M: Answering> HttpCalls<M> {
    pub(crate) fn new(
        methods: M,
        unsent: Arc<Unsent>,
        config: &RpcConfig,
    ) -> Result<Self, RpcError> {
        let plain = Plain(Arc::new(Calls {
            methods,
            unsent,
            request_bytes_max: config.limits.request_bytes_max,
            request_time_max: config.limits.request_time_max,
            batch_calls_max: config.limits.batch_calls_max as usize,
        }));
        let from_pages = cors(config)?.map(|cors| tower::Layer::layer(&cors, plain.clone()));
        Ok(Self { plain, from_pages })
    }

    pub(crate) fn answer(&self, request: HttpRequest<Incoming>) -> Answer {
        // Browsers name the origin wherever it matters to them, and preflight requests have one.
        match &self.from_pages {
            Some(service) if request.headers().contains_key(header::ORIGIN) => {
                Box::pin(service.clone().call(request))
            }
            _ => self.plain.clone().call(request),
        }
    }
}

#[derive(Debug)]
struct Calls<M> {
    methods: M,
    unsent: Arc<Unsent>,
    request_bytes_max: u32,
    request_time_max: Duration,
    batch_calls_max: usize,
}

/// JSON-RPC in the body of a POST.
#[derive(Debug)]
struct Plain<M>(Arc<Calls<M>>);

impl<M> Clone for Plain<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Answering> Service<HttpRequest<Incoming>> for Plain<M> {
    type Response = HttpResponse;
    type Error = BoxError;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Incoming>) -> Answer {
        let calls = self.0.clone();
        Box::pin(async move { calls.answer(request).await })
    }
}

impl<M: Answering> Calls<M> {
    /// An error ends the connection.
    async fn answer(&self, request: HttpRequest<Incoming>) -> Result<HttpResponse, BoxError> {
        if request.method() != hyper::Method::POST {
            return Ok(response::method_not_allowed());
        }
        if !content_type_is_json(&request) {
            return Ok(response::unsupported_content_type());
        }
        let (parts, body) = request.into_parts();
        let bytes_max = self.request_bytes_max;
        let reading = read_body(&parts.headers, body, bytes_max);
        let (body, is_single) = match tokio::time::timeout(self.request_time_max, reading).await {
            Ok(Ok(read)) => read,
            // The stream fails if a body that did not give its length is too long, or if the client hangs up, and
            // then nobody hears the answer.
            Ok(Err(HttpError::TooLarge | HttpError::Stream(_))) => {
                return Ok(response::too_large(bytes_max));
            }
            Ok(Err(HttpError::Malformed)) => return Ok(response::malformed()),
            // With the connection, since the rest of the body may come yet.
            Err(_) => return Err("the client did not send its request in time".into()),
        };
        let answer = if is_single {
            body::answer_single(&self.methods, &self.unsent, &body).await
        } else {
            body::answer_batch(&self.methods, &self.unsent, &body, self.batch_calls_max).await
        };
        Ok(response::ok_response(HttpBody::new(Full::new(answer))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
