//! Listening, and stopping.

use std::{collections::HashSet, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use heddle_builder::Miner;
use jsonrpsee::{
    core::{BoxError, middleware::RpcServiceBuilder},
    server::{
        BatchRequestConfig, HttpBody, HttpRequest, PingConfig, Server, ServerConfig, ServerHandle,
        StopHandle, serve_with_graceful_shutdown, stop_channel,
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, broadcast::error::RecvError},
    task::{JoinHandle, JoinSet},
};
use tower::{Service, ServiceBuilder, service_fn};

use crate::{
    RpcConfig, RpcError,
    connection::Connection,
    context::Context,
    http::{GateLayer, cors},
    methods,
    service::CheckedLayer,
    subscriptions::HexIds,
};

/// How long open connections may take to finish what they are at when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait before accepting again after the system refused (too many open files, say).
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// The transport by itself refuses batches longer than this many times the limit, before they take memory. In between,
/// the answer is geth's.
const BATCH_SLACK: u32 = 16;

/// Serves JSON-RPC over HTTP and WebSocket on one port.
#[derive(Debug)]
pub struct RpcServer;

/// A running server. It stops when this is dropped, or in good order with [`RpcServerHandle::stop`].
#[derive(Debug)]
pub struct RpcServerHandle {
    address: SocketAddr,
    handle: ServerHandle,
    listening: JoinHandle<()>,
}

impl RpcServerHandle {
    /// Where it listens; the port is the real one also where 0 was asked for.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
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
    /// If the address cannot be listened on, or the configuration names a web origin that is none.
    pub async fn start(config: RpcConfig, miner: Arc<Miner>) -> Result<RpcServerHandle, RpcError> {
        let cors = cors(&config)?;
        let bind_error = |source| RpcError::Bind { address: config.address, source };
        let listener = TcpListener::bind(config.address).await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;

        let context = Arc::new(Context::new(miner, &config));
        let module = methods::module(context.clone(), &config)?;
        let names: HashSet<&'static str> = module.method_names().collect();
        tracing::info!(%address, apis = %config.apis, methods = names.len(), "JSON-RPC over HTTP and WebSocket");
        let checked = CheckedLayer {
            methods: Arc::new(names),
            batch_calls_max: config.limits.batch_calls_max as usize,
            response_bytes_max: config.limits.response_bytes_max as usize,
        };
        let services = Server::builder()
            .set_config(transport(&config))
            .set_rpc_middleware(RpcServiceBuilder::new().layer(checked))
            .set_http_middleware(
                ServiceBuilder::new().option_layer(cors).layer(GateLayer::new(&config)),
            )
            .to_service_builder();

        let (stop, handle) = stop_channel();
        tokio::spawn(keep_filters(context, stop.clone()));
        let serve = move |stream: Connection<TcpStream>, stop: StopHandle| {
            // One service for one connection: its id is what keeps subscriptions apart.
            let service = services.clone().build(module.clone(), stop.clone());
            let service = service_fn(move |request: HttpRequest<_>| {
                let mut service = service.clone();
                async move { service.call(request.map(HttpBody::new)).await }
            });
            serve_with_graceful_shutdown(stream, service, stop.shutdown())
        };
        let listening = tokio::spawn(listen(listener, config, stop, serve));
        Ok(RpcServerHandle { address, handle, listening })
    }
}

fn transport(config: &RpcConfig) -> ServerConfig {
    let limits = &config.limits;
    ServerConfig::builder()
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

/// Accepts connections until the server is stopped, then waits for them.
async fn listen<S, F>(listener: TcpListener, config: RpcConfig, stop: StopHandle, serve: S)
where
    S: Fn(Connection<TcpStream>, StopHandle) -> F,
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(config.limits.connections_max as usize));
    let mut connections = JoinSet::new();
    let stopped = stop.clone().shutdown();
    tokio::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            () = &mut stopped => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            metrics::counter!("rpc_refused_connections_total").increment(1);
            tracing::debug!(
                limit = config.limits.connections_max,
                "too many connections, one is closed"
            );
            continue;
        };
        // A receipt must not wait for the next packet. Without it, everything still works.
        let _ = stream.set_nodelay(true);
        let connection = Connection::new(stream, config.limits.write_stalled_max, place);
        connections.spawn(serve(connection, stop.clone()));
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
