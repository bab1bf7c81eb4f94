//! What each subcommand does.

use crate::{
    args::{self, DbCommand},
    banner::Banner,
};
use anyhow::{Context, bail};
use heddle_node::{
    Apis, ChainSource, DEV_MNEMONIC, DurabilityPolicy, Node, NodeConfig, NodeError, RpcConfig,
    STOP_TIME_MAX, dev_accounts, init_datadir, open_store, workers_by_default,
};
use std::{net::SocketAddr, time::Duration};

/// `heddle node`
pub(crate) fn node(args: args::Node) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("heddle-rpc")
        .build()
        .context("cannot start the runtime")?
        .block_on(run_node(args))
}

async fn run_node(args: args::Node) -> anyhow::Result<()> {
    let accounts = if args.dev { dev_accounts() } else { Vec::new() };
    let mnemonic = DEV_MNEMONIC;
    let datadir = args.datadir.clone();
    let mining = describe_mining(&args);
    // Before the node is there, so that a signal during start-up is not lost.
    let stop = StopSignals::install()?;
    let node = Node::start(config(args, &accounts)?).await?;
    Banner { node: &node, accounts: &accounts, mnemonic, datadir: datadir.as_deref(), mining }
        .print();
    stop.received().await;
    tracing::info!("stopping");
    match tokio::time::timeout(STOP_TIME_MAX, node.stop()).await {
        Ok(stopped) => Ok(stopped?),
        Err(_) => bail!("the node did not stop within {STOP_TIME_MAX:?}"),
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

fn config(args: args::Node, accounts: &[heddle_node::DevAccount]) -> Result<NodeConfig, NodeError> {
    let chain = match (&args.genesis, &args.datadir) {
        _ if args.dev => ChainSource::dev(),
        (Some(genesis), _) => ChainSource::from_file(genesis)?,
        (None, Some(datadir)) => ChainSource::from_datadir(datadir)?,
        (None, None) => return Err(NodeError::NoChain),
    };
    let signers = accounts.iter().map(|account| account.signer.clone()).collect();
    let apis = if args.dev { Apis::all() } else { Apis::public() };
    Ok(NodeConfig {
        chain,
        workers: args.workers.map_or_else(workers_by_default, usize::from),
        automine: args.dev && !args.no_mining && args.block_time.is_none(),
        block_time: args.block_time,
        gas_limit: args.gas_limit,
        coinbase: args.etherbase,
        durability: match args.durability_window_ms {
            0 => DurabilityPolicy::EveryBlock,
            window => DurabilityPolicy::Window(Duration::from_millis(window)),
        },
        rpc: args.rpc.complete(
            RpcConfig {
                address: SocketAddr::new(args.http_address, args.http_port),
                apis: args.http_api.unwrap_or(apis),
                dev: args.dev,
                signers,
                cors: args.http_cors,
                hosts: args.http_hosts,
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
        DbCommand::Stats(args) => {
            let store = open_store(&args.datadir)?;
            if let Some(head) = store.head() {
                println!("head: block {}, {}", head.number, head.hash);
            }
            println!("{:<24} {:>14} {:>16}", "table", "entries", "bytes");
            for table in store.table_sizes()? {
                println!("{:<24} {:>14} {:>16}", table.name, table.entries, table.bytes);
            }
        }
        DbCommand::Verify(args) => {
            let store = open_store(&args.datadir)?;
            let report = store.verify_state()?;
            println!(
                "verified: block {}, state root {}, {} accounts, {} slots",
                report.head.number, report.state_root, report.accounts, report.slots
            );
        }
    }
    Ok(())
}
