//! Listening, and stopping.

use std::{
    future::{Future, ready},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use heddle_builder::Miner;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonrpsee::{
    RpcModule,
    core::{BoxError, middleware::RpcServiceBuilder},
    server::{
        BatchRequestConfig, HttpBody, HttpRequest, HttpResponse, PingConfig, Server, ServerConfig,
        ServerHandle, StopHandle, http::response, stop_channel, ws::is_upgrade_request,
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, broadcast::error::RecvError},
    task::{JoinHandle, JoinSet},
};
use tower::{Layer, Service, util::BoxCloneSyncService};

use crate::{
    Apis, Namespace, RpcConfig, RpcError, RpcLimits,
    connection::Connection,
    context::Context,
    fork::forward::{Forward, ForwardLayer},
    http::{Answer, HttpCalls, Rules},
    ipc::{self, IpcSocket},
    methods,
    service::{Called, Checked, CheckedLayer},
    subscriptions::HexIds,
    traffic::{Metered, Traffic, Unsent},
};

/// How long open connections may take to finish what they are at when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before accepting again after the system refused (too many open files, say).
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// The transport by itself refuses batches longer than this many times the limit, before they take memory. In between,
/// the answer is geth's.
const BATCH_SLACK: u32 = 16;

/// Serves JSON-RPC over HTTP and WebSocket on one port, and over a Unix socket.
#[derive(Debug)]
pub struct RpcServer;

/// A running server. It stops when this is dropped, or in good order with [`RpcServerHandle::stop`].
#[derive(Debug)]
pub struct RpcServerHandle {
    address: SocketAddr,
    methods: Vec<&'static str>,
    handle: ServerHandle,
    listening: JoinHandle<()>,
}

impl RpcServerHandle {
    /// Where it listens; the port is the real one also where 0 was asked for.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The names of all methods served over HTTP.
    pub fn methods(&self) -> Vec<&'static str> {
        self.methods.clone()
    }

    /// Takes no more requests, lets those that are being answered finish, at most for two seconds, and closes all
    /// connections.
    pub async fn stop(self) {
        // It fails if the server has stopped already.
        let _ = self.handle.stop();
        if let Err(error) = self.listening.await {
            tracing::error!(%error, "the RPC server had failed");
        }
    }
}

impl RpcServer {
    /// Starts to serve the chain and the pool of this miner. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// If the address or the Unix socket cannot be listened on, or the configuration names a web origin that is none.
    pub async fn start(config: RpcConfig, miner: Arc<Miner>) -> Result<RpcServerHandle, RpcError> {
        let bind_error = |source| RpcError::Bind { address: config.address, source };
        let listener = TcpListener::bind(config.address).await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let socket = config.ipc.as_deref().map(IpcSocket::bind).transpose()?;

        let context = Arc::new(Context::new(miner, &config)?);
        let served = |apis: &Apis| RpcConfig { apis: apis.clone(), ..config.clone() };
        let over_http = served(&config.apis);
        let over_websocket = served(config.websocket_apis.as_ref().unwrap_or(&config.apis));
        let mut methods: Vec<_> =
            methods::module(context.clone(), &over_http)?.method_names().collect();
        methods.sort_unstable();
        let services = Services {
            rules: Some(Arc::new(Rules::new(&over_http))),
            http: http_calls(&over_http, &context)?,
            websocket: websocket_endpoints(&over_websocket, &context)?,
            unsent: context.unsent.clone(),
        };
        // Whoever can open the socket can stop the node as well, so nothing is kept from them.
        let everything = served(&Apis::all());
        let local = Services {
            rules: None,
            http: http_calls(&everything, &context)?,
            websocket: websocket_endpoints(&everything, &context)?,
            unsent: context.unsent.clone(),
        };
        tracing::info!(%address, apis = %over_http.apis, "JSON-RPC over HTTP and WebSocket");
        warn_of_risks(address, &over_http);
        if over_websocket.apis != over_http.apis {
            warn_of_risks(address, &over_websocket);
        }

        let (stop, handle) = stop_channel();
        tokio::spawn(keep_filters(context, stop.clone()));
        let places = Arc::new(Semaphore::new(config.limits.connections_max as usize));
        let limits = Arc::new(config.limits);
        let (tcp_limits, tcp_stop) = (limits.clone(), stop.clone());
        let tcp =
            listen(listener, limits.clone(), places.clone(), stop.clone(), move |stream, place| {
                // A receipt must not wait for the next packet. Without it, everything still works.
                let _ = stream.set_nodelay(true);
                let stream = Connection::new(stream, tcp_limits.write_stalled_max, place);
                Box::pin(serve(stream, services.clone(), tcp_limits.clone(), tcp_stop.clone()))
            });
        let unix = socket.map(|socket| {
            let (unix_limits, unix_stop) = (limits.clone(), stop.clone());
            listen(socket, limits, places, stop, move |stream, place| {
                let (limits, stop) = (unix_limits.clone(), unix_stop.clone());
                Box::pin(serve_local(stream, place, local.clone(), limits, stop))
            })
        });
        let listening = tokio::spawn(async move {
            match unix {
                Some(unix) => drop(tokio::join!(tcp, unix)),
                None => tcp.await,
            }
        });
        Ok(RpcServerHandle { address, methods, handle, listening })
    }
}

/// Says what strangers could do, where the operator may not have meant it.
fn warn_of_risks(address: SocketAddr, config: &RpcConfig) {
    let risky = [Namespace::Debug, Namespace::Testing].into_iter();
    let risky: Vec<_> =
        risky.filter(|name| config.apis.contains(*name)).map(Namespace::name).collect();
    if config.dev {
        if !address.ip().is_loopback() {
            tracing::warn!(%address, "a development node is reachable from other machines; everybody there controls it");
        }
    } else if !risky.is_empty() {
        tracing::warn!(
            %address,
            namespaces = risky.join(","),
            "whoever reaches the node can put blocks on its chain and take them off; name the namespaces that you \
             need with --http.api and --ws.api"
        );
    }
}

/// One WebSocket client's way from the handshake to the methods and back.
type Endpoint = BoxCloneSyncService<HttpRequest, HttpResponse, BoxError>;
/// Makes one of them for each connection, whose id is what keeps subscriptions apart.
type Endpoints = Arc<dyn Fn(StopHandle) -> Endpoint + Send + Sync>;

/// What is between a call and its method: checks, and the other node of a fork.
fn layers(
    config: &RpcConfig,
    context: &Arc<Context>,
    module: &RpcModule<Context>,
    has_subscriptions: bool,
) -> (CheckedLayer, ForwardLayer) {
    let response_bytes_max = config.limits.response_bytes_max as usize;
    let checked = CheckedLayer {
        context: context.clone(),
        methods: Arc::new(module.method_names().map(|name| (name, OnceLock::new())).collect()),
        has_subscriptions,
        batch_calls_max: config.limits.batch_calls_max as usize,
        response_bytes_max,
    };
    (checked, ForwardLayer { context: context.clone(), response_bytes_max })
}

/// Serves the namespaces of this configuration over HTTP.
fn http_calls(
    config: &RpcConfig,
    context: &Arc<Context>,
) -> Result<HttpCalls<Checked<Forward<Called>>>, RpcError> {
    let module = methods::module(context.clone(), config)?;
    let (checked, forward) = layers(config, context, &module, false);
    let response_bytes_max = config.limits.response_bytes_max as usize;
    let called = Called { methods: module.into(), response_bytes_max };
    HttpCalls::new(checked.layer(forward.layer(called)), context.unsent.clone(), config)
}

/// Serves the namespaces of this configuration over WebSocket.
fn websocket_endpoints(config: &RpcConfig, context: &Arc<Context>) -> Result<Endpoints, RpcError> {
    let module = methods::module(context.clone(), config)?;
    let (checked, forward) = layers(config, context, &module, true);
    let services = Server::builder()
        .set_config(websocket_transport(config))
        .set_rpc_middleware(RpcServiceBuilder::new().layer(checked).layer(forward))
        .to_service_builder();
    Ok(Arc::new(move |stop| BoxCloneSyncService::new(services.clone().build(module.clone(), stop))))
}

/// What is served on the port: an upgraded connection can have other methods than one that is not.
#[derive(Clone)]
struct Services {
    /// Who is let in; `None` for everybody.
    rules: Option<Arc<Rules>>,
    http: HttpCalls<Checked<Forward<Called>>>,
    websocket: Endpoints,
    unsent: Arc<Unsent>,
}

/// Hands a connection's requests to what serves their transport.
struct ByTransport {
    services: Services,
    stop: StopHandle,
    has_asked: Arc<AtomicBool>,
    traffic: Arc<Traffic>,
}

impl hyper::service::Service<HttpRequest<Incoming>> for ByTransport {
    type Response = HttpResponse;
    type Error = BoxError;
    type Future = Answer;

    fn call(&self, mut request: HttpRequest<Incoming>) -> Answer {
        // Relaxed: whoever reads it only wants to know whether it happened some time ago.
        self.has_asked.store(true, Ordering::Relaxed);
        let Services { rules, http, websocket, .. } = &self.services;
        if rules.as_ref().is_some_and(|rules| !rules.admits(&request)) {
            Box::pin(ready(Ok(response::denied())))
        } else if is_upgrade_request(&request) {
            // Every call on it will have this at hand.
            request.extensions_mut().insert(self.traffic.clone());
            websocket(self.stop.clone()).call(request.map(HttpBody::new))
        } else {
            http.answer(request)
        }
    }
}

/// Answers the requests on one connection until the client leaves, is too slow, or the server stops.
async fn serve<S>(stream: S, services: Services, limits: Arc<RpcLimits>, stop: StopHandle)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let has_asked = Arc::new(AtomicBool::new(false));
    let traffic = Traffic::new(&limits, services.unsent.clone());
    let stream = Metered::new(stream, traffic.clone());
    let service =
        ByTransport { services, stop: stop.clone(), has_asked: has_asked.clone(), traffic };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_time_max)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let says_nothing = async move {
        tokio::time::sleep(limits.request_time_max).await;
        if has_asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::pin!(connection, says_nothing);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.shutdown() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = says_nothing => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Answers the requests on one connection of the Unix socket, by way of a WebSocket inside the process.
async fn serve_local(
    stream: UnixStream,
    place: OwnedSemaphorePermit,
    services: Services,
    limits: Arc<RpcLimits>,
    stop: StopHandle,
) {
    let (near, far) = tokio::io::duplex(ipc::PIPE_BYTES);
    let client = Connection::new(stream, limits.write_stalled_max, place);
    let carried = ipc::carry(client, near, limits.clone());
    tokio::join!(serve(far, services, limits, stop), carried);
}

fn websocket_transport(config: &RpcConfig) -> ServerConfig {
    let limits = &config.limits;
    ServerConfig::builder()
        .ws_only()
        .max_request_body_size(limits.request_bytes_max)
        .max_response_body_size(limits.response_bytes_max)
        .max_connections(limits.connections_max)
        .max_subscriptions_per_connection(limits.subscriptions_per_connection_max)
        .set_batch_request_config(BatchRequestConfig::Limit(
            limits.batch_calls_max.saturating_mul(BATCH_SLACK),
        ))
        .set_message_buffer_capacity(limits.websocket_queue_max.max(1))
        .set_id_provider(HexIds)
        .enable_ws_ping(PingConfig::new())
        .build()
}

/// One client being served.
type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where clients come in.
trait Listener: Send {
    type Stream: Send;
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    async fn accept(&self) -> io::Result<TcpStream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

impl Listener for IpcSocket {
    type Stream = UnixStream;
    async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

/// Accepts connections until the server is stopped, then waits for them.
async fn listen<L: Listener>(
    listener: L,
    limits: Arc<RpcLimits>,
    places: Arc<Semaphore>,
    stop: StopHandle,
    serve: impl Fn(L::Stream, OwnedSemaphorePermit) -> Serving,
) {
    let mut connections = JoinSet::new();
    let stopped = stop.shutdown();
    tokio::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            () = &mut stopped => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            metrics::counter!("rpc_refused_connections_total").increment(1);
            tracing::debug!(limit = limits.connections_max, "too many connections, one is closed");
            continue;
        };
        connections.spawn(serve(stream, place));
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_PATIENCE, finish).await.is_err() {
        tracing::debug!("connections that did not finish are cut off");
    }
}

/// Lets filters take up what happens while their clients do not ask.
async fn keep_filters(context: Arc<Context>, stop: StopHandle) {
    let mut heads = context.chain.subscribe();
    let mut transactions = context.pool.subscribe();
    let stopped = stop.shutdown();
    tokio::pin!(stopped);
    loop {
        let is_closed = tokio::select! {
            () = &mut stopped => return,
            head = heads.recv() => matches!(head, Err(RecvError::Closed)),
            transaction = transactions.recv() => matches!(transaction, Err(RecvError::Closed)),
        };
        if is_closed {
            return;
        }
        // Everything that is there by now is taken up at once.
        while transactions.try_recv().is_ok() {}
        context.filters.refresh(&context.limits);
    }
}
