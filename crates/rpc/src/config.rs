//! What the server listens on, offers and allows.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alloy_signer_local::PrivateKeySigner;
use heddle_remote::Patience;

use crate::RpcError;

/// A group of methods, named by the part before the underscore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// Blocks, state, calls, transactions, logs, subscriptions.
    Eth,
    /// `net_version` and its like.
    Net,
    /// Client version and keccak-256.
    Web3,
    /// What the pool holds.
    Txpool,
    /// Raw blocks, receipts and transactions, and traces.
    Debug,
    /// Traces as OpenEthereum had them.
    Trace,
    /// What the Otterscan explorer asks.
    Ots,
    /// The one method of Erigon's that Otterscan asks.
    Erigon,
    /// What parallel execution tells of blocks.
    Heddle,
    /// Blocks out of given transactions, for test suites: they may become the head.
    Testing,
    /// `personal_sign`, with the development keys only.
    Personal,
    /// Steering a development chain, with the `anvil_` and `hardhat_` names of the same.
    Evm,
}

impl Namespace {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Eth,
        Self::Net,
        Self::Web3,
        Self::Txpool,
        Self::Debug,
        Self::Trace,
        Self::Ots,
        Self::Erigon,
        Self::Heddle,
        Self::Testing,
        Self::Personal,
        Self::Evm,
    ];

    /// Its name on the command line and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eth => "eth",
            Self::Net => "net",
            Self::Web3 => "web3",
            Self::Txpool => "txpool",
            Self::Debug => "debug",
            Self::Trace => "trace",
            Self::Ots => "ots",
            Self::Erigon => "erigon",
            Self::Heddle => "heddle",
            Self::Testing => "testing",
            Self::Personal => "personal",
            Self::Evm => "evm",
        }
    }
}

/// The namespaces that are served. Written as `eth,net,web3` or `all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apis(BTreeSet<Namespace>);

impl Apis {
    /// Everything. `evm` and `personal` still answer on a development chain only.
    pub fn all() -> Self {
        Self(Namespace::ALL.into())
    }

    /// What geth serves if nobody says otherwise: `eth`, `net`, `web3`.
    pub fn public() -> Self {
        Self([Namespace::Eth, Namespace::Net, Namespace::Web3].into())
    }

    /// Whether the namespace is served.
    pub fn contains(&self, namespace: Namespace) -> bool {
        self.0.contains(&namespace)
    }
}

impl FromStr for Apis {
    type Err = RpcError;

    fn from_str(text: &str) -> Result<Self, RpcError> {
        let mut apis = BTreeSet::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name == "all" {
                return Ok(Self::all());
            }
            let known = Namespace::ALL.into_iter().find(|namespace| namespace.name() == name);
            apis.insert(known.ok_or_else(|| RpcError::UnknownNamespace(name.to_owned()))?);
        }
        Ok(Self(apis))
    }
}

impl fmt::Display for Apis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|namespace| namespace.name()).collect();
        f.write_str(&names.join(","))
    }
}

/// The configuration of an [`RpcServer`](crate::RpcServer).
#[derive(Clone, Debug)]
pub struct RpcConfig {
    /// Where to listen. Port 0 takes a free one.
    pub address: SocketAddr,
    /// What to serve over HTTP.
    pub apis: Apis,
    /// What to serve over WebSocket; `None` for the same.
    pub websocket_apis: Option<Apis>,
    /// The Unix socket to serve everything on, for the user whose node it is. `None` for none.
    pub ipc: Option<PathBuf>,
    /// Whether this is a development chain: `evm_` methods, requests from any web page, transactions without replay
    /// protection.
    pub dev: bool,
    /// The accounts that the node signs for. Empty outside development.
    pub signers: Vec<PrivateKeySigner>,
    /// Whether transactions can be sent in any account's name from the start. Only on a development chain.
    pub impersonate_all: bool,
    /// Web origins (`https://example.org`, or `*` for any) whose pages may call the node. Any on a development chain.
    pub cors: Vec<String>,
    /// Names that a request may address the server by in its `Host` header, or `*`; IP addresses always work. Protects
    /// from DNS rebinding. Not looked at on a development chain, which answers every page anyway.
    pub hosts: Vec<String>,
    /// What `web3_clientVersion` answers, if not this node's own name: some tools work only with names they know.
    pub client_version: Option<String>,
    /// What `anvil_setLoggingEnabled` turns. `None` where nobody looks at it.
    pub log_switch: Option<LogSwitch>,
    /// How another node is asked that `anvil_reset` names.
    pub fork: ForkDefaults,
    /// Bounds on everything that a client can ask for.
    pub limits: RpcLimits,
}

/// Whether the program logs what goes as it should; warnings and errors are logged anyway. Clones are one switch.
#[derive(Clone, Debug)]
pub struct LogSwitch(Arc<AtomicBool>);

impl Default for LogSwitch {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl LogSwitch {
    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        // Relaxed: nothing else is read by what this says.
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }
}

/// How another node is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkDefaults {
    /// How long, and how often.
    pub patience: Patience,
    /// Where to keep what was read, if anywhere.
    pub cache: Option<PathBuf>,
}

impl Default for ForkDefaults {
    fn default() -> Self {
        Self { patience: Patience::READS, cache: None }
    }
}

impl RpcConfig {
    /// geth's and Anvil's usual port.
    pub const PORT: u16 = 8545;

    /// A development chain's server on `127.0.0.1:8545` with everything switched on.
    pub fn dev(signers: Vec<PrivateKeySigner>) -> Self {
        Self { apis: Apis::all(), dev: true, signers, ..Self::default() }
    }
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), Self::PORT),
            apis: Apis::public(),
            websocket_apis: None,
            ipc: None,
            dev: false,
            signers: Vec::new(),
            impersonate_all: false,
            cors: Vec::new(),
            hosts: vec!["localhost".to_owned()],
            client_version: None,
            log_switch: None,
            fork: ForkDefaults::default(),
            limits: RpcLimits::default(),
        }
    }
}

/// Bounds on what clients can ask for. Where geth has the limit, the default is geth's unless a line says why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcLimits {
    /// Largest request in bytes. geth takes 5 MiB; three times that holds a batch of nine transactions with six blobs
    /// each.
    pub request_bytes_max: u32,
    /// Largest answer in bytes. A block of 50,000 transactions is about 35 MB.
    pub response_bytes_max: u32,
    /// Most calls in a batch.
    pub batch_calls_max: u32,
    /// Most open connections, over HTTP, WebSocket and IPC together; further ones are closed at once.
    pub connections_max: u32,
    /// Most subscriptions on one connection.
    pub subscriptions_per_connection_max: u32,
    /// Messages queued for a WebSocket client before its subscriptions wait for it.
    pub websocket_queue_max: u32,
    /// Bytes of answers that all clients together have not taken; beyond, answers of more than 64 KiB are refused.
    pub unsent_bytes_max: usize,
    /// Calls of one WebSocket or IPC client that are answered at once; further ones wait. A client that needs an answer
    /// to ask on has one; this is for those that ask much and read little.
    pub websocket_calls_max: usize,
    /// Bytes of answers that such a client has not taken; while there are more, its calls wait.
    pub websocket_unsent_bytes_max: usize,
    /// Bytes of its calls that wait; while there are more, nothing is read from it.
    pub websocket_waiting_bytes_max: usize,
    /// How long a new connection may take for the head of its first request, and any for the body of one. As geth's
    /// read timeout.
    pub request_time_max: Duration,
    /// How long an HTTP connection may wait between requests, the next one's head included. As geth's idle timeout,
    /// and longer than proxies keep theirs.
    pub idle_time_max: Duration,
    /// How long a client may leave us unable to write before it is disconnected. As geth's write timeout.
    pub write_stalled_max: Duration,
    /// Most gas of `eth_call`, `eth_estimateGas` and `eth_createAccessList`. Calls that name no gas get this much.
    pub call_gas_max: u64,
    /// How long one of these may compute.
    pub call_time_max: Duration,
    /// How many expensive methods compute at once.
    pub heavy_calls_max: usize,
    /// How many more may wait for their turn; beyond, the answer is "busy".
    pub heavy_calls_waiting_max: usize,
    /// How many transactions of batches may wait for their senders to be recovered, or be at it; beyond, the answer is
    /// "try again".
    pub ingress_max: usize,
    /// How many expensive methods run at once on a fork, where they mostly wait for another node.
    pub fork_calls_max: usize,
    /// How long one tracing request may compute. Clients may ask for less.
    pub trace_time_max: Duration,
    /// Most bytes that one tracing request may record before they become an answer.
    pub trace_bytes_max: usize,
    /// Most blocks that `trace_filter` may span.
    pub trace_filter_blocks_max: u64,
    /// Most blocks that `heddle_getHotLocations` goes through.
    pub hot_blocks_max: u64,
    /// Most locations that it names.
    pub hot_locations_max: usize,
    /// Most transactions that `heddle_predictConflicts` looks at, those that are pending included.
    pub predicted_max: usize,
    /// Most gas that the transactions which it is asked about may use together, by their gas limits.
    pub predicted_gas_max: u64,
    /// How many tracing requests compute at once, apart from the other expensive methods.
    pub traces_max: usize,
    /// How many more may wait for their turn; beyond, the answer is "busy".
    pub traces_waiting_max: usize,
    /// Most blocks that one log query may span. geth has no limit; a query over everything would hold a worker for
    /// minutes.
    pub logs_blocks_max: u64,
    /// Most logs in one answer.
    pub logs_max: usize,
    /// Most filters of `eth_new…Filter` that exist at a time.
    pub filters_max: usize,
    /// How long a filter lives after it was last asked.
    pub filter_lifetime: Duration,
    /// How many of the latest pending transactions `eth_newPendingTransactionFilter` remembers, over all filters.
    pub pending_hashes_max: usize,
    /// Most blocks in `eth_feeHistory`; more are cut to this many.
    pub fee_history_blocks_max: u64,
    /// Most percentiles in `eth_feeHistory`.
    pub fee_history_percentiles_max: usize,
    /// Most slots in `eth_getProof` and `eth_getStorageValues`.
    pub slots_max: usize,
    /// Most blocks that `anvil_mine` mines in one call.
    pub mined_blocks_max: u64,
}

impl Default for RpcLimits {
    fn default() -> Self {
        Self {
            request_bytes_max: 15 * 1024 * 1024,
            response_bytes_max: 160 * 1024 * 1024,
            batch_calls_max: 1_000,
            connections_max: 1_024,
            subscriptions_per_connection_max: 1_024,
            websocket_queue_max: 1_024,
            unsent_bytes_max: 1024 * 1024 * 1024,
            websocket_calls_max: 64,
            websocket_unsent_bytes_max: 16 * 1024 * 1024,
            websocket_waiting_bytes_max: 1024 * 1024,
            request_time_max: Duration::from_secs(30),
            idle_time_max: Duration::from_secs(120),
            write_stalled_max: Duration::from_secs(10),
            call_gas_max: 50_000_000,
            call_time_max: Duration::from_secs(5),
            heavy_calls_max: std::thread::available_parallelism()
                .map_or(2, |cores| cores.get().max(2)),
            heavy_calls_waiting_max: 1_024,
            // Two seconds on two cores.
            ingress_max: 100_000,
            fork_calls_max: 32,
            trace_time_max: Duration::from_secs(60),
            trace_bytes_max: 256 * 1024 * 1024,
            trace_filter_blocks_max: 1_000,
            hot_blocks_max: 256,
            hot_locations_max: 100,
            predicted_max: 1_000,
            predicted_gas_max: 500_000_000,
            // Half of the cores, so that traces never keep the others from running blocks and calls.
            traces_max: std::thread::available_parallelism()
                .map_or(1, |cores| (cores.get() / 2).max(1)),
            traces_waiting_max: 64,
            logs_blocks_max: 100_000,
            logs_max: 100_000,
            filters_max: 1_024,
            filter_lifetime: Duration::from_secs(5 * 60),
            pending_hashes_max: 65_536,
            fee_history_blocks_max: 1_024,
            fee_history_percentiles_max: 100,
            slots_max: 1_024,
            mined_blocks_max: 10_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_read_from_a_list_and_unknown_ones_are_named() {
        let apis: Apis = "eth, txpool".parse().unwrap();
        assert!(apis.contains(Namespace::Eth) && apis.contains(Namespace::Txpool));
        assert!(!apis.contains(Namespace::Net));
        assert_eq!(apis.to_string(), "eth,txpool");
        assert_eq!("eth,all".parse::<Apis>().unwrap(), Apis::all());
        let error = "eth,admin".parse::<Apis>().unwrap_err().to_string();
        assert!(error.contains("admin") && error.contains("txpool"), "{error}");
    }
}
