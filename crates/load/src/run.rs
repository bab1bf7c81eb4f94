//! A run from beginning to end.

use crate::{
    LoadError, LoadOptions, LoadReport, Progress,
    check::{self, Books, Faults, Outcome},
    client::{Block, Client},
    drive::{Drive, Driven},
    encode::{self, Terms},
    fees::{Needs, TIP_DEFAULT},
    funding,
    keys::Keyring,
    lane::Schedule,
};
use alloy_primitives::{Address, U64, U128, U256, keccak256};
use alloy_signer_local::PrivateKeySigner;
use heddle_workload::{Call, LiveWorkload, WorkloadOptions};
use std::time::Duration;

/// Funds accounts, sets the stage, sends the workload, measures, and checks what came of it. Returns when
/// all is done; `progress` is told some times a second where it is.
///
/// # Errors
/// If the run cannot be made or finished. That transactions failed or something is not as it should be is no
/// error but in the report.
pub fn run(
    options: &LoadOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<LoadReport, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async { Run::prepare(options, progress).await?.all().await })
}

/// A run whose accounts are known.
struct Run<'a> {
    options: &'a LoadOptions,
    progress: &'a mut dyn FnMut(Progress),
    client: Client,
    drive: Drive,
    payer: Payer,
    chain_id: u64,
    keys: Keyring,
}

/// Who pays.
struct Payer {
    address: Address,
    next_nonce: u64,
    balance: U256,
}

impl<'a> Run<'a> {
    async fn prepare(
        options: &'a LoadOptions,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Result<Self, LoadError> {
        let signer = PrivateKeySigner::from_bytes(&options.private_key);
        let address = signer.map_err(|_| LoadError::PrivateKey)?.address();
        let mut client = Client::open(&options.endpoint, options.patience).await?;
        let chain_id = client.call::<U64>("eth_chainId", [(); 0]).await?.to::<u64>();
        if let Some(expected) = options.chain_id.filter(|expected| *expected != chain_id) {
            return Err(LoadError::WrongChain { expected, actual: chain_id });
        }
        progress(Progress::Planning);
        let genesis: Block = client.call("eth_getBlockByNumber", ("0x0", false)).await?;
        let next_nonce: U64 = client.call("eth_getTransactionCount", (address, "pending")).await?;
        let balance = client.call("eth_getBalance", (address, "latest")).await?;
        let payer = Payer { address, next_nonce: next_nonce.to(), balance };
        // The payer's nonce moves on with every run.
        let mut number = [0; 60];
        number[..32].copy_from_slice(genesis.hash.as_slice());
        number[32..52].copy_from_slice(address.as_slice());
        number[52..].copy_from_slice(&payer.next_nonce.to_be_bytes());
        let accounts = options.accounts.min(options.transactions.saturating_add(1));
        let mut keys = Keyring::new(options.seed, keccak256(number), accounts);
        keys.add(options.private_key, address);
        // Not every node says what it is.
        let version = client.call::<String>("web3_clientVersion", [(); 0]).await;
        let anvil = version.is_ok_and(|name| name.to_ascii_lowercase().starts_with("anvil"));
        let nudged = anvil && client.call("anvil_getAutomine", [(); 0]).await.unwrap_or(true);
        let drive = Drive {
            nudged,
            endpoint: options.endpoint.clone(),
            schedule: Schedule {
                rate: None,
                batch: options.batch,
                pending_max: options.pending_max,
                // It takes the calls of a batch, and messages, in any order, and loses transactions
                // that come after their successors.
                apart: anvil,
            },
            in_flight: if anvil { 1 } else { options.in_flight },
            patience: options.patience,
        };
        Ok(Self { options, progress, client, drive, payer, chain_id, keys })
    }

    async fn all(mut self) -> Result<LoadReport, LoadError> {
        let plan = self.plan()?;
        let LiveWorkload { steps, transactions, effects } = plan;
        let head = self.client.head().await?;
        let mut needs = Needs::default();
        needs.add(steps.iter().flatten().chain(&transactions));
        let terms = self.terms(&needs, &head).await?;
        let block_gas = head.gas_limit.to::<u64>();
        let calls = steps.iter().flatten().chain(&transactions);
        let needed = calls.map(|call| call.gas_limit).max().unwrap_or_default();
        if needed > block_gas {
            return Err(LoadError::BlockGas { needed, limit: block_gas });
        }

        let Payer { address, next_nonce, .. } = self.payer;
        let payments = needs.payments(terms.max_fee);
        let calls = funding::calls(address, next_nonce, &payments, block_gas)?;
        // Anvil loses one of several that do not fit into one block now and then.
        let pending_max = if self.drive.schedule.apart { 1 } else { self.options.pending_max };
        self.set_up("funding", calls, terms, pending_max).await?;
        let count = steps.len();
        for (index, calls) in steps.into_iter().enumerate() {
            let stage = format!("set-up's step {} of {count}", index + 1);
            self.set_up(&stage, calls, terms, self.options.pending_max).await?;
        }
        self.measure(transactions, effects, terms).await
    }

    fn plan(&self) -> Result<LiveWorkload, LoadError> {
        let options = WorkloadOptions {
            transactions: Some(self.options.transactions),
            accounts: self.options.accounts,
            seed: self.options.seed,
            node_modules: self.options.node_modules.clone(),
            ..WorkloadOptions::default()
        };
        let book = self.keys.address_book();
        Ok(LiveWorkload::new(self.options.kind, &options, self.options.accounts, book)?)
    }

    async fn terms(&mut self, needs: &Needs, head: &Block) -> Result<Terms, LoadError> {
        // Not every node suggests one.
        let tip = self.client.call::<U128>("eth_maxPriorityFeePerGas", [(); 0]).await;
        let tip = tip.map_or(TIP_DEFAULT, |tip| tip.to::<u128>());
        let payer = (self.payer.address, self.payer.balance);
        needs.terms(self.chain_id, head, tip, self.options.max_fee, payer)
    }

    /// Sends transactions that must all succeed, and waits for that.
    async fn set_up(
        &mut self,
        stage: &str,
        calls: Vec<Call>,
        terms: Terms,
        pending_max: usize,
    ) -> Result<(), LoadError> {
        let total = calls.len();
        let progress = &mut self.progress;
        let connections = self.options.connections;
        let prepared = encode::prepare(calls, &self.keys, terms, connections, |_| {})?;
        let head = self.client.head().await?.number.to();
        let told = |counts: crate::tracker::Counts, _| {
            let (stage, done) = (stage.to_owned(), counts.included);
            progress(Progress::SettingUp { stage, done, total });
        };
        let drive = Drive {
            schedule: Schedule { pending_max, ..self.drive.schedule },
            ..self.drive.clone()
        };
        let (driven, transactions) = drive.run(prepared, head, told).await?;
        if let Some((first, _)) = driven.refusals.first() {
            let (count, first) = (driven.counts.refused, first.clone());
            return Err(LoadError::SetUpRefused { stage: stage.to_owned(), count, first });
        }
        if driven.counts.included < total {
            return Err(self.not_mining(total - driven.counts.included, terms).await);
        }
        let mut faults = Faults::default();
        let blocks = &driven.blocks;
        let outcomes =
            check::outcomes(&mut self.client, &transactions, blocks, &mut faults, |_| {}).await?;
        let succeeded =
            |outcome: &&Outcome| matches!(outcome, Outcome::Executed { succeeded: true, .. });
        let count = total - outcomes.iter().filter(succeeded).count();
        if count > 0 {
            let hint = "; the contracts need the opcodes of Cancun".to_owned();
            return Err(LoadError::SetUpFailed { stage: stage.to_owned(), count, total, hint });
        }
        Ok(())
    }

    async fn not_mining(&mut self, pending: usize, terms: Terms) -> LoadError {
        let base_fee = self.client.head().await.ok().and_then(|head| head.base_fee_per_gas);
        let base_fee = base_fee.map_or(0, |fee| fee.to::<u128>());
        let hint = if base_fee > terms.max_fee {
            format!(
                "; its base fee has risen to {base_fee} wei, above the fee cap of {} (--max-fee)",
                terms.max_fee
            )
        } else {
            "; does it make blocks?".to_owned()
        };
        LoadError::NotMining { pending, patience: self.options.patience, hint }
    }

    /// The timed part and what follows.
    async fn measure(
        mut self,
        calls: Vec<Call>,
        effects: Vec<(heddle_workload::Reading, heddle_workload::Change)>,
        terms: Terms,
    ) -> Result<LoadReport, LoadError> {
        let total = calls.len();
        let progress = &mut self.progress;
        let signing = |done| progress(Progress::Signing { done, total });
        let connections = self.options.connections;
        let prepared = encode::prepare(calls, &self.keys, terms, connections, signing)?;
        let books = Books::open(&mut self.client, &prepared.transactions, effects).await?;
        let head = self.client.head().await?.number.to();
        let drive = Drive {
            schedule: Schedule { rate: self.options.rate, ..self.drive.schedule },
            ..self.drive.clone()
        };
        let running = |counts: crate::tracker::Counts, elapsed| {
            let (sent, included) = (counts.sent, counts.included);
            progress(Progress::Running { sent, included, total, elapsed });
        };
        let (driven, transactions) = drive.run(prepared, head, running).await?;
        if driven.counts.included == 0 && driven.refusals.is_empty() {
            return Err(self.not_mining(total, terms).await);
        }

        let mut faults = Faults::default();
        for (message, count) in &driven.refusals {
            let hint = if message.contains("base fee") { " (--max-fee)" } else { "" };
            faults.add(|| format!("the node refused {count} transactions: {message}{hint}"));
        }
        let checks = books.len();
        let all = total + checks;
        let checking = |done| progress(Progress::Checking { done, total: all });
        let client = &mut self.client;
        let outcomes =
            check::outcomes(client, &transactions, &driven.blocks, &mut faults, checking).await?;
        let tally = check::tally(&transactions, &outcomes, &mut faults);
        let checking = |done| progress(Progress::Checking { done: total + done, total: all });
        books.close(client, &transactions, &outcomes, &mut faults, checking).await?;
        Ok(report(self.options, &driven, &tally, checks, faults))
    }
}

fn report(
    options: &LoadOptions,
    driven: &Driven,
    tally: &check::Tally,
    checks: usize,
    faults: Faults,
) -> LoadReport {
    let seconds = driven.elapsed.as_secs_f64();
    let txs = options.transactions;
    let quantile = |quantile| driven.latencies.quantile_ms(quantile);
    LoadReport {
        workload: options.kind.name(),
        txs,
        included: tally.included,
        failed: tally.failed,
        expected_failures: tally.expected_failures,
        retried: driven.counts.retried,
        nudges: driven.nudges,
        seconds,
        tps: tally.included as f64 / driven.elapsed.max(Duration::from_micros(1)).as_secs_f64(),
        submit_seconds: driven.submitted.as_secs_f64(),
        p50_ms: quantile(0.5),
        p90_ms: quantile(0.9),
        p99_ms: quantile(0.99),
        max_ms: driven.latencies.longest_ms(),
        blocks: driven.blocks.len(),
        gas: tally.gas,
        client_cpu_us_per_tx: driven.processor.as_secs_f64() * 1e6 / txs as f64,
        checks,
        verified: faults.count == 0 && tally.failed == 0 && tally.included == txs,
        faults: faults.words,
        latencies: driven.latencies.clone(),
    }
}
