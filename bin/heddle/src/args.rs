//! The command line.

use alloy_primitives::{Address, B256};
use clap::{
    ArgAction, Args, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use heddle_load::{Endpoint, LoadOptions};
use heddle_node::{Apis, DurabilityPolicy, PruneDistances};
use heddle_workload::{WorkloadKind, WorkloadOptions};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

/// An Ethereum execution node that runs the transactions of a block in parallel.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Heddle {
    #[command(flatten)]
    pub(crate) logging: Logging,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Logging {
    /// More log lines: -v info for everything, -vv debug, -vvv trace. RUST_LOG overrides it.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// How log lines look; they go to standard error.
    #[arg(long = "log.format", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub(crate) format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a node.
    Node(Box<Node>),
    /// Makes a data directory the home of a chain.
    Init(Init),
    /// Imports an RLP chain file: every block validated, executed in parallel, its roots checked.
    /// Proof-of-work seals are not verified. Can be started again after an interruption.
    Import(Import),
    /// Writes blocks of the chain into an RLP file, or as bundles for replay.
    Export(Export),
    /// Looks after a data directory. No node may be using it.
    Db(Db),
    /// Measures sequential against parallel execution of a block, in memory, alternating.
    Bench(Bench),
    /// Sends a workload to a running node (Heddle, Anvil, reth, geth), measures it, and checks that
    /// every transaction is in the chain once and had its effect.
    Load(Box<Load>),
    /// Executes historical blocks from bundles, verifies them and compares the executors.
    Replay(Replay),
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// The node: http://HOST:PORT or ws://HOST:PORT.
    #[arg(long, value_name = "URL")]
    pub(crate) rpc: Endpoint,
    /// What is sent: transfers; erc20; uniswap-v2 (20 pools); uniswap (V3, 32 pools); hybrid;
    /// mixed-defi (one in ten is made to fail); nft-mint; dao-vote; lending; chain-erc20;
    /// chain-uniswap. As in `heddle bench`.
    #[arg(
        long,
        value_name = "NAME",
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(WorkloadKind::ALL.map(WorkloadKind::name))
            .try_map(|name| WorkloadKind::from_str(&name)),
    )]
    pub(crate) workload: WorkloadKind,
    /// Transactions, beside those of the set-up.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(LoadOptions::TRANSACTIONS_MAX)))]
    pub(crate) txs: u32,
    /// Sends so many transactions a second, whatever the node does; latencies count from when each
    /// was due [default: sends the next when the former are answered].
    #[arg(long, value_name = "TPS", value_parser = transactions_a_second)]
    pub(crate) rate: Option<f64>,
    /// Connections that send. All transactions of an account go through one, in order.
    #[arg(long, value_name = "C", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=i64::from(LoadOptions::CONNECTIONS_MAX)))]
    pub(crate) connections: u16,
    /// Most transactions in one request; at a fixed rate a request takes what is due.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=i64::from(LoadOptions::BATCH_MAX)))]
    pub(crate) batch: u16,
    /// Most unanswered requests on a WebSocket; over HTTP it is always one.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=i64::from(LoadOptions::IN_FLIGHT_MAX)))]
    pub(crate) in_flight: u16,
    /// Accounts that send, made and funded for this run; no more than there are transactions.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(LoadOptions::ACCOUNTS_MAX)))]
    pub(crate) accounts: u32,
    /// Most transactions that are sent and in no block; a node's pool should have room for them.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pending: u32,
    /// The same seed makes the same choices of who does what.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Key of the account that pays for everything [default: the first development account's].
    #[arg(
        long,
        value_name = "KEY",
        env = "HEDDLE_LOAD_PRIVATE_KEY",
        hide_env_values = true,
        hide_default_value = true,
        default_value_t = LoadOptions::DEV_KEY
    )]
    pub(crate) private_key: B256,
    /// Fee cap of every transaction, in gwei per gas [default: up to 1,000 times the base fee if a tenth
    /// of what the payer has is enough, otherwise up to 20 times if half of it is].
    #[arg(long, value_name = "GWEI", value_parser = gwei)]
    pub(crate) max_fee: Option<u128>,
    /// Chain id that the node must have.
    #[arg(long, value_name = "ID")]
    pub(crate) chain_id: Option<u64>,
    /// Gives up when the node does nothing for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Where npm put Uniswap's packages; only the Uniswap workloads and hybrid need them.
    #[arg(long, value_name = "DIR", default_value = "tests/node_modules")]
    pub(crate) node_modules: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Bundles (JSON or gzipped JSON), or directories of them.
    #[arg(value_name = "BUNDLE_OR_DIR", required_unless_present = "rpc")]
    pub(crate) bundles: Vec<PathBuf>,
    /// Gets the blocks from a node that serves eth and debug_traceBlockByNumber with
    /// prestateTracer, and has the state before them.
    #[arg(long, value_name = "URL", requires = "block", conflicts_with = "bundles")]
    pub(crate) rpc: Option<String>,
    /// Which block to get, or which range, both ends included.
    #[arg(long, value_name = "N[..M]", value_parser = block_range, requires = "rpc")]
    pub(crate) block: Option<RangeInclusive<u64>>,
    /// Writes the blocks as bundles and replays nothing; those that are there are not fetched
    /// again.
    #[arg(long, value_name = "DIR", requires = "rpc", conflicts_with_all = ["report", "json"])]
    pub(crate) save: Option<PathBuf>,
    /// Threads that execute a block [default: one for each core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
    /// How often each executor runs, in turn; medians are shown.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) repeat: u16,
    /// One JSON object a line, a summary last, instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Names every read that a bundle has no answer for, and fails; otherwise such accounts are
    /// empty and such slots zero.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Writes a page to look at: timelines, conflicts, simulated scale.
    #[arg(long, value_name = "OUT.html")]
    pub(crate) report: Option<PathBuf>,
    /// Simulates 1 to 64 workers from measured times and the true dependencies, beside the bound
    /// that the critical path sets, and says how near the simulation comes to the clock.
    #[arg(long, conflicts_with = "save")]
    pub(crate) simulate: bool,
    /// As --simulate, and fails unless the simulation is within 15 % of the measured time for the
    /// median and three quarters of the blocks that take 1 ms and more. For a machine with nothing
    /// else to do.
    #[arg(long, conflicts_with = "save")]
    pub(crate) check_simulation: bool,
    /// The chain's genesis file, for bundles of chains other than Ethereum mainnet.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// A workload, or several after one another [default: each of them].
    ///
    /// Independent: transfers; erc20 (one token); uniswap (V3, a pool for each); uniswap-v2 (500
    /// pools).
    /// Mixed: hybrid (60/20/20 % of gas of transfers, ERC-20 and Uniswap V3); mixed-defi
    /// (zipf-distributed users over 20 pools, 40 tokens, lending, mints, votes; one in ten fails).
    /// Hot spots: nft-mint (one counter); dao-vote (a few tallies); lending (one market).
    /// Chains, each transaction needing the one before: chain-erc20; chain-uniswap.
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(WorkloadKind::ALL.map(WorkloadKind::name))
            .try_map(|name| WorkloadKind::from_str(&name)),
        verbatim_doc_comment
    )]
    pub(crate) workload: Vec<WorkloadKind>,
    /// Transactions in the block [default: about one gigagas].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) txs: Option<u32>,
    /// Accounts among which hybrid and mixed-defi draw.
    #[arg(long, value_name = "N", default_value_t = WorkloadOptions::ACCOUNTS as u32, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) accounts: u32,
    /// Share of hybrid's senders and receivers that are drawn from its hot accounts, one in a
    /// hundred of all; 0 to 1.
    #[arg(long, value_name = "R", default_value_t = 0.0, value_parser = ratio)]
    pub(crate) hot_ratio: f64,
    /// The same seed gives the same block.
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Threads that execute the block [default: one for each core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
    /// How often each side runs; medians are shown.
    #[arg(long, value_name = "K", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) repeat: u16,
    /// Makes the first read of every account and slot of a run wait for this many microseconds, as
    /// on a disk, on all sides; what the waits came to is shown.
    #[arg(long, value_name = "US", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) cold_read_us: Option<u32>,
    /// Also measures what a sequential and a parallel run take in memory at most, each in a process
    /// of its own.
    #[arg(long)]
    pub(crate) memory: bool,
    /// Also simulates 1 to 64 workers, beside the bound that the critical path sets, and says how
    /// much of the bound was reached: more than all of it, where the reference takes longer for a
    /// transaction than one worker does.
    #[arg(long, conflicts_with = "cold_read_us")]
    pub(crate) scale: bool,
    /// One JSON object a line instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Where npm put Uniswap's packages; only the Uniswap workloads and hybrid need them.
    #[arg(long, value_name = "DIR", default_value = "tests/node_modules")]
    pub(crate) node_modules: PathBuf,
    /// Runs one side once and prints what memory it took: what --memory starts.
    #[arg(long, value_name = "SIDE", hide = true)]
    pub(crate) memory_of: Option<MemorySide>,
}

/// As [`heddle_workload::Side`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MemorySide {
    Sequential,
    Parallel,
}

/// The largest id whose signatures' `v` fits into 64 bits (EIP-2294).
pub(crate) const CHAIN_ID_MAX: u64 = u64::MAX / 2 - 36;

#[derive(Debug, Args)]
pub(crate) struct Node {
    /// A development chain: id 31337, ten funded accounts whose keys everybody knows, a block for
    /// every transaction.
    #[arg(long, conflicts_with = "genesis")]
    pub(crate) dev: bool,
    /// The chain's genesis file, in geth's format.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
    /// Where the chain is kept. Without it, it is in memory and gone at the end.
    #[arg(long, value_name = "DIR")]
    pub(crate) datadir: Option<PathBuf>,

    /// Address that HTTP and WebSocket listen on.
    #[arg(long = "http.addr", value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), help_heading = "JSON-RPC")]
    pub(crate) http_address: IpAddr,
    /// Port of HTTP and WebSocket; 0 takes a free one.
    #[arg(
        long = "http.port",
        alias = "port",
        value_name = "PORT",
        default_value_t = 8545,
        help_heading = "JSON-RPC"
    )]
    pub(crate) http_port: u16,
    /// Namespaces served, separated by commas, or "all" [default: eth,net,web3; with --dev all].
    /// There are eth, net, web3, txpool, debug, trace, ots, erigon and testing, and with --dev evm
    /// (with anvil and hardhat) and personal.
    #[arg(long = "http.api", value_name = "LIST", help_heading = "JSON-RPC")]
    pub(crate) http_api: Option<Apis>,
    /// Web origins whose pages may call the node, separated by commas [with --dev: any].
    #[arg(
        long = "http.corsdomain",
        value_name = "LIST",
        value_delimiter = ',',
        help_heading = "JSON-RPC"
    )]
    pub(crate) http_cors: Vec<String>,
    /// Host names that requests may address, separated by commas; "*" for any.
    #[arg(
        long = "http.vhosts",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "localhost",
        help_heading = "JSON-RPC"
    )]
    pub(crate) http_hosts: Vec<String>,
    #[command(flatten)]
    pub(crate) rpc: crate::rpc_args::RpcArgs,

    /// Seconds between blocks; fractions are fine [with --dev: a block for every transaction].
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "no_mining", help_heading = "Blocks")]
    pub(crate) block_time: Option<Duration>,
    /// No blocks but those asked for with evm_mine.
    #[arg(long, help_heading = "Blocks")]
    pub(crate) no_mining: bool,
    /// Gas limit of new blocks [default: that of the newest block].
    #[arg(long, value_name = "GAS", value_parser = clap::value_parser!(u64).range(5_000..), help_heading = "Blocks")]
    pub(crate) gas_limit: Option<u64>,
    /// Account that gets the fees.
    #[arg(long = "miner.etherbase", value_name = "ADDRESS", default_value_t = Address::ZERO, help_heading = "Blocks")]
    pub(crate) etherbase: Address,
    /// Executes waiting transactions while cores are idle, to know what they touch before their block is made: fewer
    /// conflicts, and among equal fees an order for many workers.
    #[arg(long = "txpool.simulate", help_heading = "Blocks")]
    pub(crate) simulate: bool,

    /// How many funded accounts there are [default: 10].
    #[arg(short = 'a', long, value_name = "N", requires = "dev", conflicts_with = "genesis", value_parser = clap::value_parser!(u16).range(1..=1_000), help_heading = "Development chain (with --dev)")]
    pub(crate) accounts: Option<u16>,
    /// What each of them has at genesis, in ether [default: 10000].
    #[arg(
        long,
        value_name = "ETHER",
        requires = "dev",
        conflicts_with = "genesis",
        help_heading = "Development chain (with --dev)"
    )]
    pub(crate) balance: Option<u64>,
    /// What their keys are derived from [default: the words that everybody uses].
    #[arg(
        short = 'm',
        long,
        value_name = "WORDS",
        requires = "dev",
        conflicts_with = "genesis",
        help_heading = "Development chain (with --dev)"
    )]
    pub(crate) mnemonic: Option<String>,
    /// EIP-155 chain id [default: 31337; on a fork that of the other node].
    #[arg(long, value_name = "ID", requires = "dev", conflicts_with = "genesis", value_parser = clap::value_parser!(u64).range(1..=CHAIN_ID_MAX), help_heading = "Development chain (with --dev)")]
    pub(crate) chain_id: Option<u64>,
    /// Transactions can be sent in any account's name, as after anvil_autoImpersonateAccount.
    #[arg(
        long,
        requires = "dev",
        conflicts_with = "genesis",
        help_heading = "Development chain (with --dev)"
    )]
    pub(crate) auto_impersonate: bool,

    /// Time of the genesis block, in seconds since 1970 [default: now, and 0 with --datadir].
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "dev",
        conflicts_with_all = ["genesis", "fork_url"],
        help_heading = "Development chain (with --dev)"
    )]
    pub(crate) timestamp: Option<u64>,
    /// What web3_clientVersion answers instead of Heddle's own name. Hardhat's network helpers want
    /// one that begins with "anvil" or "hardhat".
    #[arg(
        long,
        value_name = "NAME",
        requires = "dev",
        conflicts_with = "genesis",
        help_heading = "Development chain (with --dev)"
    )]
    pub(crate) client_version: Option<String>,

    #[command(flatten)]
    pub(crate) fork: crate::fork_args::ForkArgs,

    /// Starts from a state dump in Anvil's format, gzipped or not.
    #[arg(
        long,
        value_name = "FILE",
        requires = "dev",
        conflicts_with = "genesis",
        help_heading = "State dumps (with --dev)"
    )]
    pub(crate) load_state: Option<PathBuf>,
    /// Writes such a dump at the end; into a directory as state.json.
    #[arg(
        long,
        value_name = "FILE",
        requires = "dev",
        conflicts_with = "genesis",
        group = "dumped",
        help_heading = "State dumps (with --dev)"
    )]
    pub(crate) dump_state: Option<PathBuf>,
    /// Both: starts from the file if it is there, and writes it at the end.
    #[arg(
        long,
        value_name = "FILE",
        requires = "dev",
        group = "dumped",
        conflicts_with_all = ["genesis", "load_state", "datadir"],
        help_heading = "State dumps (with --dev)"
    )]
    pub(crate) state: Option<PathBuf>,
    /// Also writes the dump every so many seconds.
    #[arg(
        short = 's',
        long,
        value_name = "SECONDS",
        value_parser = seconds,
        requires = "dumped",
        help_heading = "State dumps (with --dev)"
    )]
    pub(crate) state_interval: Option<Duration>,

    /// Threads that execute a block's transactions [default: one for each core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
    /// When a block is on disk. "block": before it is shown, so that nothing that was seen is ever lost. "window=MS": at
    /// most so many milliseconds after it is shown, which a crash can take back, for less time at the disk.
    #[arg(long, value_name = "block|window=MS", value_parser = durability, default_value = "window=100")]
    pub(crate) durability: DurabilityPolicy,
    /// What `--durability window=MS` was called before; 0 is `--durability block`.
    #[arg(
        long = "durability.window",
        value_name = "MS",
        hide = true,
        conflicts_with = "durability"
    )]
    pub(crate) durability_window_ms: Option<u64>,
    /// Memory for pages of the database, in MiB.
    #[arg(long = "cache", value_name = "MIB", default_value_t = (heddle_node::CACHE_BYTES >> 20) as u32, value_parser = clap::value_parser!(u32).range(16..=1 << 20))]
    pub(crate) cache_mib: u32,
    #[command(flatten)]
    pub(crate) prune: Prune,
    /// How many blocks behind the head a branch may leave the chain, and proofs can be made.
    #[arg(long, value_name = "BLOCKS", default_value_t = heddle_node::PROOF_DEPTH_BLOCKS, value_parser = clap::value_parser!(u64).range(1..=REORG_DEPTH_MAX))]
    pub(crate) reorg_depth: u64,
    /// Serves Prometheus metrics there, for instance 127.0.0.1:9001.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics: Option<SocketAddr>,
}

/// What is forgotten, by the distance from the head. Nothing is unless it is said here: an archive.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Pruning")]
pub(crate) struct Prune {
    /// Keeps the states of so many blocks behind the head [default: all].
    #[arg(long = "prune.state", value_name = "BLOCKS")]
    pub(crate) prune_state: Option<u64>,
    /// Keeps the receipts and logs of so many blocks behind the head [default: all].
    #[arg(long = "prune.receipts", value_name = "BLOCKS")]
    pub(crate) prune_receipts: Option<u64>,
    /// Keeps the transactions of so many blocks behind the head [default: all].
    #[arg(long = "prune.bodies", value_name = "BLOCKS")]
    pub(crate) prune_bodies: Option<u64>,
}

impl Prune {
    /// Not nearer than a reorganisation needs them.
    pub(crate) fn distances(self, reorg_depth: u64) -> anyhow::Result<PruneDistances> {
        let Self { prune_state: state, prune_receipts: receipts, prune_bodies: bodies } = self;
        for (name, distance) in [("state", state), ("receipts", receipts), ("bodies", bodies)] {
            if let Some(distance) = distance.filter(|distance| *distance < reorg_depth) {
                anyhow::bail!(
                    "--prune.{name} {distance} keeps less than a reorganisation may need: --reorg-depth is {reorg_depth}"
                );
            }
        }
        Ok(PruneDistances { state, receipts, bodies })
    }
}

#[derive(Debug, Args)]
pub(crate) struct DbPrune {
    #[command(flatten)]
    pub(crate) directory: DataDir,
    #[command(flatten)]
    pub(crate) prune: Prune,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The chain's genesis file, in geth's format.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: PathBuf,
    /// The data directory; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) datadir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The chain's genesis file, in geth's format; not needed for a data directory that has one.
    #[arg(long, value_name = "FILE")]
    pub(crate) genesis: Option<PathBuf>,
    /// The data directory; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) datadir: PathBuf,
    /// Threads that execute a block [default: one for each core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
    /// Blocks in RLP, one after the other.
    #[arg(value_name = "CHAIN.rlp")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) datadir: PathBuf,
    /// First block.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) from: u64,
    /// Last block [default: the newest].
    #[arg(long, value_name = "N")]
    pub(crate) to: Option<u64>,
    /// Writes each block with the state that it reads as a bundle for `heddle replay`, instead of
    /// all blocks in RLP.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundles: Option<PathBuf>,
    /// The file to write.
    #[arg(value_name = "OUT.rlp", required_unless_present = "bundles", conflicts_with = "bundles")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Db {
    #[command(subcommand)]
    pub(crate) command: DbCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DbCommand {
    /// Prints what the tables hold.
    Stats(DataDir),
    /// Computes anew what headers say: every page's checksum, the state root from all accounts, and of every block its
    /// parent, its transactions and its receipts.
    Verify(DataDir),
    /// Forgets states, receipts or transactions that are farther behind the head than given.
    Prune(DbPrune),
}

#[derive(Debug, Args)]
pub(crate) struct DataDir {
    /// Prints one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) datadir: PathBuf,
}

/// A day between blocks is more than anybody waits for; the bound keeps the arithmetic safe.
const BLOCK_TIME_MAX_S: f64 = 86_400.0;

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| format!("{text} is not a number"))?;
    if !(0.0..=1.0).contains(&ratio) {
        return Err(format!("{text} is not between 0 and 1"));
    }
    Ok(ratio)
}

/// More than any machine sends, and few enough for the arithmetic.
const RATE_MAX: f64 = 10_000_000.0;

fn transactions_a_second(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("{text} is not a number"))?;
    if !(0.001..=RATE_MAX).contains(&rate) {
        return Err(format!("{text} is not between 0.001 and {RATE_MAX}"));
    }
    Ok(rate)
}

/// The most that half of all the ether could pay for a transfer, about.
const GWEI_MAX: f64 = 1e12;

fn gwei(text: &str) -> Result<u128, String> {
    let gwei: f64 = text.parse().map_err(|_| format!("{text} is not a number of gwei"))?;
    if !(1e-9..=GWEI_MAX).contains(&gwei) {
        return Err(format!("{text} is not between 0.000000001 and {GWEI_MAX} gwei"));
    }
    Ok((gwei * 1e9) as u128)
}

/// What changed in so many blocks is undone in memory for a proof or a branch.
const REORG_DEPTH_MAX: u64 = 65_536;

/// Longest durability window: what piles up in memory meanwhile is some megabytes a second.
const DURABILITY_WINDOW_MAX_MS: u64 = 60_000;

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text} is not a number of seconds"))?;
    if !(0.001..=BLOCK_TIME_MAX_S).contains(&seconds) {
        return Err(format!("{text} is not between 0.001 and {BLOCK_TIME_MAX_S} seconds"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// `block`, or `window=MS`.
fn durability(text: &str) -> Result<DurabilityPolicy, String> {
    if text == "block" {
        return Ok(DurabilityPolicy::EveryBlock);
    }
    let window = text.strip_prefix("window=").and_then(|window| window.parse().ok());
    let window = window.filter(|window| *window <= DURABILITY_WINDOW_MAX_MS);
    window.map(durability_window).ok_or_else(|| {
        format!("{text:?} is neither \"block\" nor \"window=\" and at most {DURABILITY_WINDOW_MAX_MS} milliseconds")
    })
}

/// No window at all is a block's.
pub(crate) fn durability_window(ms: u64) -> DurabilityPolicy {
    match ms {
        0 => DurabilityPolicy::EveryBlock,
        window => DurabilityPolicy::Window(Duration::from_millis(window)),
    }
}

/// `N` or `N..M`, both ends included.
fn block_range(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number = |text: &str| {
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.map_err(|_| format!("{text:?} is not a block number"))
    };
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    let (from, to) = (number(from)?, number(to)?);
    if from > to {
        return Err(format!("block {from} comes after block {to}"));
    }
    Ok(from..=to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Heddle::command().debug_assert();
    }

    #[test]
    fn a_ratio_is_between_nothing_and_all() {
        assert_eq!(ratio("0.3"), Ok(0.3));
        for wrong in ["-0.1", "1.01", "NaN", "half"] {
            assert!(ratio(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_and_fees_are_numbers_within_reason() {
        assert_eq!(transactions_a_second("2.5"), Ok(2.5));
        assert_eq!(gwei("1.5"), Ok(1_500_000_000));
        for wrong in ["0", "-1", "NaN", "1e99", "many"] {
            assert!(transactions_a_second(wrong).is_err(), "{wrong}");
            assert!(gwei(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durability_is_by_block_or_by_a_window() {
        assert_eq!(durability("block"), Ok(DurabilityPolicy::EveryBlock));
        assert_eq!(durability("window=0"), Ok(DurabilityPolicy::EveryBlock));
        let window = Duration::from_millis(250);
        assert_eq!(durability("window=250"), Ok(DurabilityPolicy::Window(window)));
        for wrong in ["", "window", "window=", "window=-1", "window=60001", "250", "never"] {
            assert!(durability(wrong).is_err(), "{wrong}");
        }
        let parsed = |args: &[&str]| {
            let line = ["heddle", "node", "--dev"].iter().chain(args);
            match Heddle::try_parse_from(line).expect("right").command {
                Command::Node(node) => (node.durability, node.durability_window_ms),
                _ => panic!("not the command that was given"),
            }
        };
        let usual = DurabilityPolicy::Window(heddle_node::DURABILITY_WINDOW);
        assert_eq!(parsed(&[]), (usual, None));
        assert_eq!(parsed(&["--durability.window", "0"]).1, Some(0));
    }

    #[test]
    fn block_times_may_be_fractions_but_not_nonsense() {
        assert_eq!(seconds("0.2"), Ok(Duration::from_millis(200)));
        for wrong in ["0", "-1", "NaN", "1e99", "soon"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    /// clap drops a `requires` that a conflict makes impossible, so `--genesis` needs a look of its own.
    #[test]
    fn what_is_for_the_development_chain_is_refused_without_it() {
        for flag in [
            "--accounts=3",
            "--balance=7",
            "--mnemonic=words",
            "--chain-id=5",
            "--auto-impersonate",
            "--load-state=FILE",
            "--dump-state=FILE",
            "--state=FILE",
        ] {
            let parse =
                |with: &[&str]| Heddle::try_parse_from([&["heddle", "node", flag], with].concat());
            assert!(parse(&["--dev"]).is_ok(), "{flag}");
            assert!(parse(&[]).is_err(), "{flag}");
            assert!(parse(&["--genesis=FILE"]).is_err(), "{flag} with --genesis");
        }
    }

    #[test]
    fn a_block_range_is_one_number_or_two() {
        assert_eq!(block_range("7"), Ok(7..=7));
        assert_eq!(block_range("0x10..17"), Ok(16..=17));
        for wrong in ["", "..", "7..", "..7", "7...8", "8..7", "latest", "-1", "0x"] {
            assert!(block_range(wrong).is_err(), "{wrong}");
        }
    }
}
