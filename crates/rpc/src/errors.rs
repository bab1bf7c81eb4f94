//! What goes wrong: on starting the server, and on answering a call.

use std::{io, net::SocketAddr, path::PathBuf};

use alloy_primitives::Bytes;
use jsonrpsee::types::{ErrorObject, ErrorObjectOwned};

use crate::config::Namespace;

/// The server cannot be started as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The port is taken, or the address is not ours.
    #[error(
        "cannot listen on {address}: {source} (is another node running? choose another port with --http.port)"
    )]
    Bind {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The Unix socket cannot be made, or another process answers there.
    #[error("cannot listen on {path}: {source} (choose another place with --ipcpath, or --ipcdisable)", path = path.display())]
    Ipc {
        /// Where it was to be.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A namespace that does not exist.
    #[error("unknown RPC namespace `{0}`; known are {known} and `all`", known = known_namespaces())]
    UnknownNamespace(String),
    /// A web origin that no browser could send.
    #[error("`{0}` is no web origin; give it as https://example.org, or * for any")]
    InvalidOrigin(String),
    /// The system gives no more threads.
    #[error("cannot start the threads that recover senders: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// Two methods have one name. A mistake in this crate.
    #[error("registering methods: {0}")]
    Register(#[from] jsonrpsee::server::RegisterMethodError),
}

fn known_namespaces() -> String {
    Namespace::ALL.map(|namespace| format!("`{}`", namespace.name())).join(", ")
}

/// The error code of a call that reverted.
pub(crate) const REVERTED: i32 = 3;
/// The method ran and could not be carried out; geth's code for nearly everything.
pub(crate) const SERVER_ERROR: i32 = -32000;
/// A limit of this node (EIP-1474).
pub(crate) const LIMIT_EXCEEDED: i32 = -32005;
/// What was asked for was there and is not kept any more (EIP-4444).
pub(crate) const PRUNED: i32 = 4444;
/// The JSON is no JSON-RPC request.
pub(crate) const INVALID_REQUEST: i32 = -32600;
/// There is no such method.
pub(crate) const METHOD_NOT_FOUND: i32 = -32601;
/// The parameters are not what the method takes.
pub(crate) const INVALID_PARAMS: i32 = -32602;

/// The node could not do what it should have.
pub(crate) const INTERNAL_ERROR: i32 = -32603;

/// Why a call is answered with an error. The texts are geth's where geth has the error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    InvalidParams(String),
    #[error("the method {0} does not exist/is not available")]
    MethodNotFound(String),
    #[error("notifications not supported")]
    NoSubscriptions,
    #[error("{message}")]
    Reverted { message: String, data: Bytes },
    #[error("{0}")]
    Server(String),
    /// An error whose code the method's own specification fixes.
    #[error("{message}")]
    Coded { code: i32, message: String },
    #[error("{0}")]
    Limit(String),
    #[error("the node is busy with {0} expensive calls and as many are waiting as may; try again")]
    Busy(usize),
    #[error("the node has {0} transactions whose senders it has not recovered yet; try again")]
    IngressFull(usize),
    #[error(
        "the node is busy: answers of {0} bytes wait for their clients to read them; try again"
    )]
    Unread(usize),
}

impl Failure {
    #[expect(clippy::needless_pass_by_value, reason = "so that it can stand in `map_err`")]
    pub(crate) fn server(message: impl ToString) -> Self {
        Self::Server(message.to_string())
    }

    #[expect(clippy::needless_pass_by_value, reason = "so that it can stand in `map_err`")]
    pub(crate) fn params(message: impl ToString) -> Self {
        Self::InvalidParams(message.to_string())
    }

    pub(crate) const fn code(&self) -> i32 {
        match self {
            Self::InvalidParams(_) => INVALID_PARAMS,
            Self::MethodNotFound(_) | Self::NoSubscriptions => METHOD_NOT_FOUND,
            Self::Reverted { .. } => REVERTED,
            Self::Server(_) => SERVER_ERROR,
            Self::Coded { code, .. } => *code,
            Self::Limit(_) | Self::Busy(_) | Self::IngressFull(_) | Self::Unread(_) => {
                LIMIT_EXCEEDED
            }
        }
    }
}

impl From<Failure> for ErrorObjectOwned {
    fn from(failure: Failure) -> Self {
        let code = failure.code();
        let message = failure.to_string();
        match failure {
            Failure::Reverted { data, .. } => ErrorObject::owned(code, message, Some(data)),
            _ => ErrorObject::owned(code, message, None::<()>),
        }
    }
}

impl From<heddle_chain::ChainError> for Failure {
    fn from(error: heddle_chain::ChainError) -> Self {
        if error.is_pruned() {
            return Self::Coded { code: PRUNED, message: error.to_string() };
        }
        Self::server(error)
    }
}

impl From<heddle_evm::StateError> for Failure {
    fn from(error: heddle_evm::StateError) -> Self {
        Self::server(error)
    }
}

impl From<heddle_pool::PoolError> for Failure {
    fn from(error: heddle_pool::PoolError) -> Self {
        Self::server(error)
    }
}
