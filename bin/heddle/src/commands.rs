//! What each subcommand does.

use crate::{
    args::{self, DbCommand},
    banner::Banner,
    database,
};
use anyhow::{Context, bail};
use heddle_node::{
    Apis, ChainSource, DevAccount, DevChain, LogSwitch, Node, NodeConfig, NodeError,
    PruneDistances, RpcConfig, STOP_TIME_MAX, has_dump, init_datadir, workers_by_default,
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// `heddle node`
pub(crate) fn node(args: args::Node, log_switch: LogSwitch) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("heddle-rpc")
        .build()
        .context("cannot start the runtime")?
        .block_on(run_node(args, log_switch))
}

async fn run_node(args: args::Node, log_switch: LogSwitch) -> anyhow::Result<()> {
    let dev_chain = dev_chain(&args);
    let accounts = if args.dev { dev_chain.accounts()? } else { Vec::new() };
    let datadir = args.datadir.clone();
    let mining = describe_mining(&args);
    let dumps = Dumps::wanted(&args)?;
    // Before the node is there, so that a signal during start-up is not lost.
    let stop = StopSignals::install()?;
    let prune = args.prune.distances(args.reorg_depth)?;
    let node = Node::start(config(args, prune, &dev_chain, &accounts, log_switch)?).await?;
    Banner {
        node: &node,
        accounts: &accounts,
        dev_chain: &dev_chain,
        datadir: datadir.as_deref(),
        mining,
    }
    .print();
    let stop = stop.received();
    tokio::pin!(stop);
    dumps.write_until(&mut stop, &node).await;
    tracing::info!("stopping");
    // A dump that cannot be written must not keep the rest from being stopped in order.
    let dumped = dumps.write(&node).await;
    match tokio::time::timeout(STOP_TIME_MAX, node.stop()).await {
        Ok(stopped) => stopped?,
        Err(_) => bail!("the node did not stop within {STOP_TIME_MAX:?}"),
    }
    Ok(dumped?)
}

/// Where and how often the state is dumped.
struct Dumps {
    path: Option<PathBuf>,
    interval: Option<Duration>,
}

impl Dumps {
    /// A path that cannot be written is told before there is something to lose.
    fn wanted(args: &args::Node) -> anyhow::Result<Self> {
        let path = args.dump_state.clone().or_else(|| args.state.clone());
        if let Some(directory) = path.as_deref().and_then(Path::parent)
            && !directory.as_os_str().is_empty()
            && !directory.is_dir()
        {
            bail!("{} is no directory; the state cannot be dumped into it", directory.display());
        }
        Ok(Self { path, interval: args.state_interval })
    }

    async fn write(&self, node: &Node) -> Result<(), NodeError> {
        if let Some(path) = &self.path {
            let path = node.dump_state(path).await?;
            tracing::info!(path = %path.display(), "the state is dumped");
        }
        Ok(())
    }

    /// Writes one after every interval until `stop` is over.
    async fn write_until(&self, stop: &mut (impl Future<Output = ()> + Unpin), node: &Node) {
        while let Some(interval) = self.interval {
            if tokio::time::timeout(interval, &mut *stop).await.is_ok() {
                return;
            }
            if let Err(error) = self.write(node).await {
                tracing::error!(%error, "the state could not be dumped");
            }
        }
        stop.await;
    }
}

fn describe_mining(args: &args::Node) -> String {
    match args.block_time {
        _ if args.no_mining => "only when asked for (evm_mine)".to_owned(),
        Some(time) => format!("one every {} s", time.as_secs_f64()),
        None if args.dev => "one as soon as there is a transaction".to_owned(),
        None => "none (--block-time makes them)".to_owned(),
    }
}

fn dev_chain(args: &args::Node) -> DevChain {
    let usual = DevChain::default();
    DevChain {
        mnemonic: args.mnemonic.clone().unwrap_or(usual.mnemonic),
        accounts: args.accounts.unwrap_or(usual.accounts),
        balance_ether: args.balance.unwrap_or(usual.balance_ether),
        chain_id: args.chain_id.unwrap_or(usual.chain_id),
        timestamp: args.timestamp.unwrap_or_else(|| genesis_time(args)),
    }
}

/// Contracts that are to be opened in a year, counted from the newest block, want that block to be of today. A chain on
/// disk has the same genesis at every start, the one that other commands find in `genesis/dev.json`.
fn genesis_time(args: &args::Node) -> u64 {
    if args.datadir.is_some() {
        return 0;
    }
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_1970.map_or(0, |since| since.as_secs())
}

fn config(
    args: args::Node,
    prune: PruneDistances,
    dev_chain: &DevChain,
    accounts: &[DevAccount],
    log_switch: LogSwitch,
) -> Result<NodeConfig, NodeError> {
    let chain = match (&args.genesis, &args.datadir) {
        _ if args.dev => dev_chain.source(accounts)?,
        (Some(genesis), _) => ChainSource::from_file(genesis)?,
        (None, Some(datadir)) => ChainSource::from_datadir(datadir)?,
        (None, None) => return Err(NodeError::NoChain),
    };
    let funded = accounts.iter().map(|account| (account.address, dev_chain.balance())).collect();
    let signers = accounts.iter().map(|account| account.signer.clone()).collect();
    let apis = if args.dev { Apis::all() } else { Apis::public() };
    let load_state = args.load_state.or_else(|| args.state.filter(|path| has_dump(path)));
    Ok(NodeConfig {
        chain,
        fork: args.fork.config(args.chain_id),
        funded,
        load_state,
        workers: args.workers.map_or_else(workers_by_default, usize::from),
        automine: args.dev && !args.no_mining && args.block_time.is_none(),
        block_time: args.block_time,
        simulate: args.simulate,
        gas_limit: args.gas_limit,
        coinbase: args.etherbase,
        prune,
        reorg_depth: args.reorg_depth,
        cache_bytes: (args.cache_mib as usize) << 20,
        durability: args.durability_window_ms.map_or(args.durability, args::durability_window),
        rpc: args.rpc.complete(
            RpcConfig {
                address: SocketAddr::new(args.http_address, args.http_port),
                apis: args.http_api.unwrap_or(apis),
                dev: args.dev,
                signers,
                impersonate_all: args.auto_impersonate,
                cors: args.http_cors,
                hosts: args.http_hosts,
                fork: args.fork.defaults(),
                client_version: args.client_version,
                log_switch: Some(log_switch),
                ..RpcConfig::default()
            },
            args.datadir.as_deref(),
        ),
        metrics: args.metrics,
        datadir: args.datadir,
    })
}

/// Ctrl-C and SIGTERM.
struct StopSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn install() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        survive_file_size_limit()?;
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
        })
    }

    async fn received(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Where files may not grow any more (`ulimit -f`), a write fails as on a full disk, which is better than the signal that
/// ends the process otherwise.
fn survive_file_size_limit() -> anyhow::Result<()> {
    /// Its number on Linux and on macOS.
    const SIGXFSZ: i32 = 25;
    use tokio::signal::unix::{SignalKind, signal};
    // Listened to once, it stays harmless.
    drop(signal(SignalKind::from_raw(SIGXFSZ)).context("cannot listen for SIGXFSZ")?);
    Ok(())
}

/// `heddle init`
pub(crate) fn init(args: &args::Init) -> anyhow::Result<()> {
    let chain = ChainSource::from_file(&args.genesis)?;
    let hash = init_datadir(&args.datadir, &chain)?;
    println!("chain id {}, genesis {hash}, in {}", chain.spec.chain_id(), args.datadir.display());
    Ok(())
}

/// `heddle db`
pub(crate) fn db(args: &args::Db) -> anyhow::Result<()> {
    match &args.command {
        DbCommand::Stats(args) => database::stats(args)?,
        DbCommand::Verify(args) => database::verify(args)?,
        DbCommand::Prune(args) => database::prune(args)?,
    }
    Ok(())
}
