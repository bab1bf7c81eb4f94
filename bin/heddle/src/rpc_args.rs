//! What `heddle node` is told about JSON-RPC beyond where it listens: WebSocket, IPC and limits. Where geth has the
//! flag its name is geth's, otherwise reth's.

use clap::{Args, value_parser};
use heddle_node::{Apis, RpcConfig, RpcLimits};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The socket's name in a data directory.
const IPC_FILE: &str = "heddle.ipc";
/// Sizes are given in these.
const MEBIBYTE: u32 = 1024 * 1024;
/// The transport counts bytes in 32 bits.
const MEBIBYTES_MAX: i64 = 4_095;
/// More than any machine has use for; keeps the arithmetic safe.
const COUNT_MAX: i64 = 1_000_000_000;
/// An hour: a call that takes longer has been forgotten by whoever made it.
const SECONDS_MAX: f64 = 3_600.0;

#[derive(Debug, Clone, Args)]
pub(crate) struct RpcArgs {
    /// Namespaces served over WebSocket [default: as --http.api].
    #[arg(long = "ws.api", value_name = "LIST", help_heading = "JSON-RPC")]
    ws_api: Option<Apis>,
    /// Unix socket that serves all namespaces to the user who runs the node; a plain name is in the
    /// data directory [default: heddle.ipc there, none without one].
    #[arg(long = "ipcpath", value_name = "PATH", help_heading = "JSON-RPC")]
    ipc_path: Option<PathBuf>,
    /// No Unix socket.
    #[arg(long = "ipcdisable", conflicts_with = "ipc_path", help_heading = "JSON-RPC")]
    ipc_disable: bool,

    /// Most gas of eth_call and its like; what a call gets that names none.
    #[arg(long = "rpc.gascap", value_name = "GAS", default_value_t = RpcLimits::default().call_gas_max, value_parser = value_parser!(u64).range(21_000..=1_000_000_000_000), help_heading = "JSON-RPC limits")]
    gas_cap: u64,
    /// Longest time of a call or estimate, such as 5s or 500ms.
    #[arg(long = "rpc.evmtimeout", value_name = "TIME", default_value = "5s", value_parser = time, help_heading = "JSON-RPC limits")]
    evm_timeout: Duration,
    /// Longest time of a tracing request.
    #[arg(long = "rpc.tracetimeout", value_name = "TIME", default_value = "60s", value_parser = time, help_heading = "JSON-RPC limits")]
    trace_timeout: Duration,
    /// Most calls in a batch.
    #[arg(long = "rpc.batch-request-limit", value_name = "N", default_value_t = RpcLimits::default().batch_calls_max, value_parser = value_parser!(u32).range(1..=1_000_000), help_heading = "JSON-RPC limits")]
    batch_calls: u32,
    /// Largest request, in MiB.
    #[arg(long = "rpc.max-request-size", value_name = "MIB", default_value_t = RpcLimits::default().request_bytes_max / MEBIBYTE, value_parser = value_parser!(u32).range(1..=MEBIBYTES_MAX), help_heading = "JSON-RPC limits")]
    request_mebibytes: u32,
    /// Largest answer, in MiB.
    #[arg(long = "rpc.max-response-size", value_name = "MIB", default_value_t = RpcLimits::default().response_bytes_max / MEBIBYTE, value_parser = value_parser!(u32).range(1..=MEBIBYTES_MAX), help_heading = "JSON-RPC limits")]
    response_mebibytes: u32,
    /// Most open connections, HTTP, WebSocket and IPC together.
    #[arg(long = "rpc.max-connections", value_name = "N", default_value_t = RpcLimits::default().connections_max, value_parser = value_parser!(u32).range(1..=1_000_000), help_heading = "JSON-RPC limits")]
    connections: u32,
    /// Most subscriptions on one connection.
    #[arg(long = "rpc.max-subscriptions-per-connection", value_name = "N", default_value_t = RpcLimits::default().subscriptions_per_connection_max, value_parser = value_parser!(u32).range(1..=1_000_000), help_heading = "JSON-RPC limits")]
    subscriptions: u32,
    /// Most blocks that a log query spans.
    #[arg(long = "rpc.max-blocks-per-filter", value_name = "N", default_value_t = RpcLimits::default().logs_blocks_max, value_parser = value_parser!(u64).range(1..), help_heading = "JSON-RPC limits")]
    logs_blocks: u64,
    /// Most logs in an answer, unless the query is about one block.
    #[arg(long = "rpc.max-logs-per-response", value_name = "N", default_value_t = RpcLimits::default().logs_max as u64, value_parser = value_parser!(u64).range(1..=COUNT_MAX as u64), help_heading = "JSON-RPC limits")]
    logs: u64,
    /// Most blocks that trace_filter spans.
    #[arg(long = "rpc.max-trace-filter-blocks", value_name = "N", default_value_t = RpcLimits::default().trace_filter_blocks_max, value_parser = value_parser!(u64).range(1..), help_heading = "JSON-RPC limits")]
    trace_filter_blocks: u64,
    /// Expensive calls computed at once; as many as --rpc.max-waiting-calls more wait their turn, the
    /// others are told that the node is busy [default: one for each core, at least 2].
    #[arg(long = "rpc.max-calls", value_name = "N", value_parser = value_parser!(u16).range(1..=1024), help_heading = "JSON-RPC limits")]
    calls: Option<u16>,
    /// Expensive calls that wait.
    #[arg(long = "rpc.max-waiting-calls", value_name = "N", default_value_t = RpcLimits::default().heavy_calls_waiting_max as u32, value_parser = value_parser!(u32).range(0..=1_000_000), help_heading = "JSON-RPC limits")]
    waiting_calls: u32,
    /// Transactions of batches whose senders are being recovered or are to be; beyond, senders are told to come again.
    #[arg(long = "rpc.max-waiting-transactions", value_name = "N", default_value_t = RpcLimits::default().ingress_max as u32, value_parser = value_parser!(u32).range(1..=10_000_000), help_heading = "JSON-RPC limits")]
    ingress: u32,
    /// Tracing requests computed at once [default: one for two cores, at least 1].
    #[arg(long = "rpc.max-tracing-requests", value_name = "N", value_parser = value_parser!(u16).range(1..=1024), help_heading = "JSON-RPC limits")]
    traces: Option<u16>,
}

impl RpcArgs {
    /// Completes the configuration of the server with what was said here.
    pub(crate) fn complete(self, config: RpcConfig, datadir: Option<&Path>) -> RpcConfig {
        let defaults = RpcLimits::default();
        RpcConfig {
            ipc: self.ipc(datadir),
            websocket_apis: self.ws_api,
            limits: RpcLimits {
                call_gas_max: self.gas_cap,
                call_time_max: self.evm_timeout,
                trace_time_max: self.trace_timeout,
                batch_calls_max: self.batch_calls,
                request_bytes_max: self.request_mebibytes * MEBIBYTE,
                response_bytes_max: self.response_mebibytes * MEBIBYTE,
                connections_max: self.connections,
                subscriptions_per_connection_max: self.subscriptions,
                logs_blocks_max: self.logs_blocks,
                logs_max: usize::try_from(self.logs).unwrap_or(usize::MAX),
                trace_filter_blocks_max: self.trace_filter_blocks,
                heavy_calls_max: self.calls.map_or(defaults.heavy_calls_max, usize::from),
                heavy_calls_waiting_max: self.waiting_calls as usize,
                ingress_max: self.ingress as usize,
                traces_max: self.traces.map_or(defaults.traces_max, usize::from),
                ..defaults
            },
            ..config
        }
    }

    /// As geth: a plain name is in the data directory, anything else is a path.
    fn ipc(&self, datadir: Option<&Path>) -> Option<PathBuf> {
        match (&self.ipc_path, datadir) {
            _ if self.ipc_disable => None,
            (Some(path), Some(datadir)) if path.components().count() == 1 && path.is_relative() => {
                Some(datadir.join(path))
            }
            (Some(path), _) => Some(path.clone()),
            (None, datadir) => datadir.map(|datadir| datadir.join(IPC_FILE)),
        }
    }
}

/// A time as Go writes it, in one unit.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is no time such as 5s, 500ms or 2m, up to an hour");
    let unit = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit);
    let seconds = number.parse::<f64>().map_err(|_| wrong())?
        * match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return Err(wrong()),
        };
    if (0.001..=SECONDS_MAX).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        rpc: RpcArgs,
    }

    fn parse(line: &[&str]) -> RpcArgs {
        Line::try_parse_from([&["node"], line].concat()).unwrap().rpc
    }

    #[test]
    fn without_flags_the_limits_are_the_documented_ones() {
        let config = parse(&[]).complete(RpcConfig::default(), None);
        assert_eq!(config.limits, RpcLimits::default());
        assert_eq!((config.ipc, config.websocket_apis), (None, None));
    }

    #[test]
    fn the_socket_is_in_the_data_directory_unless_a_path_says_otherwise() {
        let datadir = Some(Path::new("/data"));
        let of = |line: &[&str], datadir| parse(line).ipc(datadir);
        assert_eq!(of(&[], datadir), Some("/data/heddle.ipc".into()));
        assert_eq!(of(&["--ipcpath", "x.ipc"], datadir), Some("/data/x.ipc".into()));
        assert_eq!(of(&["--ipcpath", "/tmp/x.ipc"], datadir), Some("/tmp/x.ipc".into()));
        assert_eq!(of(&["--ipcpath", "x.ipc"], None), Some("x.ipc".into()));
        assert_eq!(of(&["--ipcdisable"], datadir), None);
    }

    #[test]
    fn times_are_written_with_their_unit() {
        assert_eq!(time("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(time("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(time("1.5m"), Ok(Duration::from_secs(90)));
        for wrong in ["", "5", "s", "0s", "-1s", "NaNs", "2h", "5 s", "5µs"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
