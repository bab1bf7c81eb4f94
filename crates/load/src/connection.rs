//! One connection to a node, kept open: HTTP/1.1 or WebSocket.

use crate::{
    LoadError,
    endpoint::{Endpoint, Scheme},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, body::Incoming, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use soketto::handshake::{Client as Handshake, ServerResponse};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

/// Largest answer in bytes: Heddle's own limit is 160 MiB, for blocks of hundreds of thousands of
/// transactions.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Tries to send a request over HTTP. Servers may close a kept connection at any time; the same
/// transaction sent twice is known and does no harm.
const TRIES_MAX: u32 = 3;
/// How much of an answer that is not JSON-RPC is shown, in characters.
const SHOWN_MAX: usize = 200;

type Socket = Compat<TcpStream>;

/// A kept connection on which one request is out at a time.
pub(crate) enum Connection {
    Http(Http),
    WebSocket(Box<WebSocket>),
}

impl Connection {
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, LoadError> {
        Ok(match endpoint.scheme {
            Scheme::Http => Self::Http(Http::open(endpoint).await?),
            Scheme::WebSocket => Self::WebSocket(Box::new(WebSocket::open(endpoint).await?)),
        })
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn exchange(&mut self, body: Bytes) -> Result<Bytes, LoadError> {
        match self {
            Self::Http(http) => http.exchange(body).await,
            Self::WebSocket(socket) => {
                socket.sender.send(&body).await?;
                socket.receiver.receive().await.map(Bytes::from)
            }
        }
    }
}

async fn connect(endpoint: &Endpoint) -> Result<TcpStream, LoadError> {
    let fail = |error: std::io::Error| LoadError::Connect {
        node: endpoint.to_string(),
        reason: error.to_string(),
    };
    let host = endpoint.host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, endpoint.port)).await.map_err(fail)?;
    stream.set_nodelay(true).map_err(fail)?;
    Ok(stream)
}

pub(crate) struct Http {
    endpoint: Endpoint,
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Http {
    async fn open(endpoint: &Endpoint) -> Result<Self, LoadError> {
        let stream = connect(endpoint).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(endpoint, &error))?;
        tokio::task::spawn_local(async move {
            // Whoever sends on it hears of its end.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
        });
        Ok(Self { endpoint: endpoint.clone(), sender })
    }

    async fn exchange(&mut self, body: Bytes) -> Result<Bytes, LoadError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.once(body.clone()).await {
                Ok(response) => return self.read(response).await,
                Err(error) if tries == TRIES_MAX => return Err(broken(&self.endpoint, &error)),
                Err(_) => self.sender = Self::open(&self.endpoint).await?.sender,
            }
        }
    }

    async fn once(&mut self, body: Bytes) -> Result<hyper::Response<Incoming>, hyper::Error> {
        self.sender.ready().await?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hyper::Method::POST;
        if let Ok(uri) = self.endpoint.path.parse() {
            *request.uri_mut() = uri;
        }
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        if let Ok(host) = self.endpoint.authority().parse() {
            headers.insert(header::HOST, host);
        }
        self.sender.send_request(request).await
    }

    async fn read(&self, response: hyper::Response<Incoming>) -> Result<Bytes, LoadError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| broken(&self.endpoint, &error))?.to_bytes();
        let node = self.endpoint.to_string();
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Err(LoadError::Busy { node, status: status.as_u16() })
            }
            _ => {
                let text: String = String::from_utf8_lossy(&body).chars().take(SHOWN_MAX).collect();
                Err(LoadError::NotJsonRpc { node, reason: format!("HTTP {status}: {text}") })
            }
        }
    }
}

pub(crate) struct WebSocket {
    pub(crate) sender: WebSocketSender,
    pub(crate) receiver: WebSocketReceiver,
}

pub(crate) struct WebSocketSender {
    endpoint: Endpoint,
    sender: soketto::Sender<Socket>,
}

pub(crate) struct WebSocketReceiver {
    endpoint: Endpoint,
    receiver: soketto::Receiver<Socket>,
}

impl WebSocket {
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, LoadError> {
        let stream = connect(endpoint).await?.compat();
        let authority = endpoint.authority();
        let mut handshake = Handshake::new(stream, &authority, &endpoint.path);
        let answer = handshake.handshake().await.map_err(|error| broken(endpoint, &error))?;
        let refused = match answer {
            ServerResponse::Accepted { .. } => None,
            ServerResponse::Redirect { status_code, .. }
            | ServerResponse::Rejected { status_code } => Some(status_code),
        };
        if let Some(status) = refused {
            let reason = format!("HTTP status {status} to a WebSocket's handshake");
            return Err(LoadError::NotJsonRpc { node: endpoint.to_string(), reason });
        }
        let mut builder = handshake.into_builder();
        builder.set_max_message_size(ANSWER_BYTES_MAX);
        builder.set_max_frame_size(ANSWER_BYTES_MAX);
        let (sender, receiver) = builder.finish();
        Ok(Self {
            sender: WebSocketSender { endpoint: endpoint.clone(), sender },
            receiver: WebSocketReceiver { endpoint: endpoint.clone(), receiver },
        })
    }
}

impl WebSocketSender {
    pub(crate) async fn send(&mut self, body: &[u8]) -> Result<(), LoadError> {
        let fail = |error: soketto::connection::Error| broken(&self.endpoint, &error);
        let text = std::str::from_utf8(body).map_err(|error| broken(&self.endpoint, &error))?;
        self.sender.send_text(text).await.map_err(fail)?;
        self.sender.flush().await.map_err(fail)
    }
}

impl WebSocketReceiver {
    /// The next message. Not to be abandoned half-way.
    pub(crate) async fn receive(&mut self) -> Result<Vec<u8>, LoadError> {
        let mut message = Vec::new();
        self.receiver
            .receive_data(&mut message)
            .await
            .map_err(|error| broken(&self.endpoint, &error))?;
        Ok(message)
    }
}

fn broken(endpoint: &Endpoint, error: &impl ToString) -> LoadError {
    LoadError::Broken { node: endpoint.to_string(), reason: error.to_string() }
}
